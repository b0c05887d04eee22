"""Reads the feeds of a fresh node with the software of others. Run by scripts/clients; the
arguments are the node's base and the password of its user admin."""
import asyncio, contextlib, datetime, http.client, http.server, json, logging, subprocess, sys, threading, types, uuid

import aiohttp
import feedparser
import requests
from cachecontrol import CacheControl
from atomicpuppy.atomicpuppy import StreamReader, SubscriptionInfoStore

from proxies import HERE, START_DEADLINE, documented, haproxy_command, in_front, nginx_command, nginx_conf

EVENTS = 45
ATOM_XML, ATOM_JSON = 'application/atom+xml', 'application/vnd.eventstore.atom+json'
PLAIN = requests.Session()
PLAIN.headers['Accept-Encoding'] = 'identity'


def append(base, stream, events):
    body = [{'eventId': str(uuid.uuid4()), **event} for event in events]
    answer = requests.post(f'{base}/streams/{stream}', json.dumps(body), headers={'Content-Type': 'application/vnd.eventstore.events+json'})
    assert answer.status_code == 201, (answer.status_code, answer.reason)


def links(document):
    return {link['relation']: link['uri'] for link in document['links']}


def a_feed_reader_reads_every_page(base):
    """feedparser, from the newest page along `next` to the oldest."""
    titles, url, pages = [], f'{base}/streams/books', 0
    while url:
        feed = feedparser.parse(PLAIN.get(url, headers={'Accept': ATOM_XML}).content)
        assert not feed.bozo, feed.bozo_exception
        assert feed.version == 'atom10' and feed.feed.title == "Event stream 'books'", feed.feed
        assert feed.feed.id == f'{base}/streams/books' and feed.feed.author == 'EventStore'
        for entry in feed.entries:
            assert entry.link == entry.id and entry.updated_parsed and entry.summary == 'sold', entry
        titles += [entry.title for entry in feed.entries]
        url, pages = next((link.href for link in feed.feed.links if link.rel == 'next'), None), pages + 1
    assert titles == [f'{n}@books' for n in reversed(range(EVENTS))], titles
    assert pages == 3, pages


def documents_follow_the_grammar_of_atom(base, password):
    paths = ['books', 'books?embed=content', 'books/0/forward/20', 'books/45/forward/20', 'books/metadata/head/backward/5', 'books/0',
             'odd?embed=content', 'odd/0', 'odd/1', 'odd/2', 'odd/3', 'links', 'links/0', 'empty', '%24all/head/backward/100', 'books/head']
    for path in paths:
        answer = PLAIN.get(f'{base}/streams/{path}', headers={'Accept': ATOM_XML}, auth=('admin', password))
        assert answer.status_code == 200, (path, answer.status_code)
        checked = subprocess.run(['xmllint', '--noout', '--nonet', '--relaxng', f'{HERE}/atom.rng', '-'], input=answer.content, capture_output=True)
        assert checked.returncode == 0, f'{path}: {checked.stderr.decode()}\n{answer.text}'
        # RFC 5005: a paged feed has at most one link of each kind.
        if b'<feed' in answer.content:
            relations = [link.rel for link in feedparser.parse(answer.content).feed.links]
            assert len(relations) == len(set(relations)), (path, relations)
    broken = PLAIN.get(f'{base}/streams/books', headers={'Accept': ATOM_XML}).content.replace(b'updated>', b'changed>')
    checked = subprocess.run(['xmllint', '--noout', '--relaxng', f'{HERE}/atom.rng', '-'], input=broken, capture_output=True)
    assert checked.returncode != 0, 'the grammar accepts anything'


def a_client_of_the_original_walks_a_stream(base):
    """AtomicPuppy, from the oldest event to the newest, and further events after that."""
    host, port = base.removeprefix('http://').split(':')
    config = types.SimpleNamespace(host=host, port=port, page_size=10)

    class Counter(dict):
        def __missing__(self, stream):
            return -1

    async def walk():
        queue = asyncio.Queue()
        async with aiohttp.ClientSession() as session:
            store = SubscriptionInfoStore(config, Counter())
            reader = StreamReader(queue, 'books', 'test', 1, store, session, nosleep=True)
            for _ in range(2):
                await asyncio.wait_for(reader.consume(), 30)
            first = [queue.get_nowait() for _ in range(queue.qsize())]
            append(base, 'books', [{'eventType': 'sold', 'data': {'n': EVENTS}}])
            await asyncio.wait_for(reader.consume(), 30)
            return first, [queue.get_nowait() for _ in range(queue.qsize())]

    first, later = asyncio.run(walk())
    assert [event.sequence for event in first] == list(range(EVENTS)), [event.sequence for event in first]
    assert [event.data['n'] for event in first] == list(range(EVENTS)) and first[0].metadata == {'by': 'card'}
    assert [event.sequence for event in later] == [EVENTS], later


def a_caching_proxy_keeps_old_pages_and_no_others(node, proxy):
    def get(path, **headers):
        return PLAIN.get(f'{proxy}/streams/{path}', headers={'Accept': ATOM_JSON, **headers})

    old = [get('books/9/backward/10') for _ in range(2)]
    assert [answer.headers['X-Cache'] for answer in old] == ['MISS', 'HIT'] and old[0].content == old[1].content
    full = [get('books/0/forward/10') for _ in range(2)]
    assert [answer.headers['X-Cache'] for answer in full] == ['MISS', 'HIT']
    event = [get('books/3') for _ in range(2)]
    assert [answer.headers['X-Cache'] for answer in event] == ['MISS', 'HIT']
    # Another type of the same page is another answer.
    assert get('books/9/backward/10', Accept=ATOM_XML).headers['Content-Type'].startswith(ATOM_XML)
    for path in ['books', 'books/head/backward/5', f'books/{EVENTS + 1}/forward/20', 'books/head', 'books/metadata']:
        heads = [get(path) for _ in range(3)]
        assert all(answer.status_code == 200 for answer in heads), path
        assert all(answer.headers['X-Cache'] == 'MISS' for answer in heads), (path, [h.headers['X-Cache'] for h in heads])
    # A new event shows at once.
    before = get('books')
    append(proxy, 'books', [{'eventType': 'sold', 'data': {'n': 'new'}}])
    after = get('books')
    assert after.json()['entries'][0]['title'] != before.json()['entries'][0]['title']
    assert get('books', **{'If-None-Match': after.headers['ETag']}).status_code == 304
    assert get('books', **{'If-None-Match': before.headers['ETag']}).status_code == 200
    # Links lead through the proxy, so a reader stays there from page to page.
    page, seen = after.json(), 0
    while True:
        uris = list(links(page).values()) + [page['id']] + [link['uri'] for entry in page['entries'] for link in entry['links']]
        assert all(uri.startswith(f'{proxy}/streams/books') for uri in uris), uris
        seen += len(page['entries'])
        if 'next' not in links(page):
            break
        page = PLAIN.get(links(page)['next'], headers={'Accept': ATOM_JSON}).json()
    assert seen == EVENTS + 2, seen
    # What was cached compressed for one is plain for another who asked for nothing.
    packed = requests.get(f'{proxy}/streams/books/19/backward/20', headers={'Accept': ATOM_JSON, 'Accept-Encoding': 'gzip'})
    plain = get('books/19/backward/20')
    assert packed.headers['Content-Encoding'] == 'gzip' and 'Content-Encoding' not in plain.headers
    assert packed.json() == plain.json()


def a_cache_of_a_client_keeps_the_type(node):
    """CacheControl takes over the headers of a 304 for the page that it has."""
    session = CacheControl(requests.Session())
    answers = [session.get(f'{node}/streams/books', headers={'Accept': ATOM_XML}) for _ in range(3)]
    assert [answer.from_cache for answer in answers] == [False, True, True], [answer.from_cache for answer in answers]
    for answer in answers:
        assert answer.headers['Content-Type'].startswith(ATOM_XML) and answer.headers['ETag'], answer.headers
        assert answer.content == answers[0].content


def times_are_read_by_strict_parsers(node):
    page = PLAIN.get(f'{node}/streams/books', headers={'Accept': ATOM_JSON}).json()
    for text in [page['updated']] + [entry['updated'] for entry in page['entries']]:
        digits = text.partition('.')[2].rstrip('Z')
        datetime.datetime.strptime(text, '%Y-%m-%dT%H:%M:%S.%fZ' if digits else '%Y-%m-%dT%H:%M:%SZ')


def nginx_plain_conf(directory, port, node):
    return nginx_conf(directory, f'''
    proxy_cache_path {directory}/cache keys_zone=feeds:1m;
    map $upstream_status $unchanged {{ default 0; ~304$ 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {node};
            proxy_cache feeds;
            # nginx does not pass If-None-Match on where it caches, and ignores it for answers that
            # it may not cache. Without the second line it would keep a 304 and hand it to all.
            proxy_set_header If-None-Match $http_if_none_match;
            proxy_no_cache $unchanged;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            add_header X-Cache $upstream_cache_status;
        }}
    }}''')


def nginx_cache_conf(directory, port, node):
    return nginx_conf(directory, documented('nginx.cache.conf', [
        ('/var/cache/nginx/headwater', f'{directory}/cache'), ('listen 80', f'listen 127.0.0.1:{port}'), ('feeds.example.com:80', f'127.0.0.1:{port}'),
        ('feeds.example.com', '127.0.0.1'), ('http://node1:2113', node)]))


def varnish_vcl(directory, port, node):
    host, node_port = node.removeprefix('http://').split(':')
    return documented('varnish.vcl', [('feeds.example.com:80', f'127.0.0.1:{port}'), ('feeds.example.com', f'127.0.0.1:{port}'), ('"node1"', f'"{host}"'), ('"2113"', f'"{node_port}"')])


def varnish_plain_vcl(directory, port, node):
    """What Varnish does by itself."""
    host, node_port = node.removeprefix('http://').split(':')
    return f'vcl 4.1; backend default {{ .host = "{host}"; .port = "{node_port}"; }}'


def haproxy_cache_conf(directory, port, node):
    """With one node, and the cache of HAProxy behind what it does with headers."""
    behind_headers = '    option http-buffer-request'
    conf = documented('haproxy.cfg', [
        ('bind :2113', f'bind 127.0.0.1:{port}'), ('127.0.0.1:2113', f'127.0.0.1:{port}'), ('node1:2113', node.removeprefix('http://')),
        ('    server node2 node2:2113\n', ''), ('    server node3 node3:2113\n', ''),
        (behind_headers, f'    http-request cache-use feeds\n    http-response cache-store feeds\n{behind_headers}')])
    return f'''
cache feeds
    total-max-size 4
    process-vary on
{conf}'''


def varnish_command(file, directory, port):
    return ['varnishd', '-F', '-n', f'{directory}/work', '-a', f'127.0.0.1:{port}', '-f', file, '-s', 'malloc,16m', '-j', 'none']


NGINX = ('nginx', nginx_plain_conf, nginx_command, True)

# Name, how its file is written, how it is run, and whether it tells hits from misses. Those as
# documented are the files in deploy.
PROXIES = [
    NGINX,
    ('nginx as documented', nginx_cache_conf, nginx_command, True),
    ('Varnish', varnish_plain_vcl, varnish_command, False),
    ('Varnish as documented', varnish_vcl, varnish_command, False),
    ('HAProxy as documented', haproxy_cache_conf, haproxy_command, False),
]


# What an attacker sends, in order that others get the answer to it.
POISON = [
    ('Host', 'evil.example'), ('Host', 'evil.example:80'), ('X-Forwarded-Host', 'evil.example'), ('X-Forwarded-Host', 'evil.example:443'), ('X-Forwarded-Port', '666'),
    ('X-Forwarded-Proto', 'https'), ('X-Forwarded-Prefix', '/attacker'), ('Forwarded', 'host=evil.example;proto=https'), ('ES-ResolveLinkTos', 'false'),
    ('Kurrent-ResolveLinkTos', 'false'), ('Accept-Encoding', 'gzip'), ('Accept', ATOM_XML), ('Accept', 'application/vnd.eventstore.streamdesc+json'),
]


def behind(proxy, node):
    """Runs one of PROXIES in front of a node, and gives its address."""
    _, conf, command, _ = proxy
    return in_front(lambda directory, port: conf(directory, port, node), command)


def nobody_poisons_a_cache(node):
    # With the tags of the newest pages, every page of these streams is a 304, old ones as well.
    tags = ', '.join(PLAIN.get(f'{node}/streams/{stream}', headers={'Accept': ATOM_JSON}).headers['ETag'] for stream in ['books', 'links'])
    for proxy in PROXIES:
        with behind(proxy, node) as address:
            poison(proxy, node, address, POISON + [('If-None-Match', tags)])


def poison(proxy, node, address, attempts):
    """Asks with the header of each attempt first, then twice as everybody does, whom nobody may have
    deceived."""
    name, _, _, tells_hits = proxy
    for number, (header, value) in enumerate(attempts):
        # The number makes the path another one; the node does not look at it.
        for path in [f'links/0/forward/2?embed=body&{number}', f'books/9/backward/10?{number}', f'books/3?{number}', f'books/?{number}', f'books?{number}', f'nowhere-{number}']:
            def get(base, **headers):
                return PLAIN.get(f'{base}/streams/{path}', headers={'Accept': ATOM_JSON, **headers}, allow_redirects=False)

            is_page = path.startswith(('links', 'books/9'))
            if header == 'If-None-Match' and is_page:
                assert get(node, **{header: value}).status_code == 304, path
            get(f'http://{address}', **{header: value})
            honest = [get(f'http://{address}') for _ in range(2)]
            expected = get(node, Host=address)
            for answer in honest:
                for part in [lambda answer: answer.status_code, lambda answer: answer.headers.get('Location'), lambda answer: answer.headers.get('Content-Encoding'),
                             lambda answer: answer.headers.get('Content-Type'), lambda answer: answer.content]:
                    assert part(answer) == part(expected), (name, header, value, path, part(answer), part(expected))
            if tells_hits and (is_page or path.startswith('books/3')):
                assert honest[1].headers['X-Cache'] == 'HIT', (name, header, value, path, honest[1].headers)


# What only the proxy may say. Nodes believe it (--trusted-auth-from, --trusted-proxies).
FORGED = [
    ('ES-TrustedAuth', 'admin; $admins'), ('Forwarded', 'for=192.0.2.1;host=evil.example;proto=https'), ('X-Forwarded-For', '192.0.2.1'), ('X-Forwarded-Host', 'evil.example:80'),
    ('X-Forwarded-Port', '666'), ('X-Forwarded-Prefix', '/attacker'), ('X-Forwarded-Proto', 'https'),
]


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that arrive."""

    def do_GET(self):
        body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header('Cache-Control', 'no-store')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        # A balancer that asks only for the status does not wait for the body.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def no_forged_header_passes_a_proxy():
    """Through the files in deploy."""
    documented = [proxy for proxy in PROXIES if proxy[0].endswith('as documented')]
    assert len(documented) == 3, documented
    for proxy in documented:
        no_forged_header_passes(proxy[0], lambda node: behind(proxy, node))


def no_forged_header_passes(name, start_before):
    """Sent once, twice, and named in Connection as well, which makes some proxies drop a header,
    and others refuse; Varnish does so where it names X-Forwarded-For."""
    backend = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Echo)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    named = ('Connection', ', '.join(header for header, _ in FORGED if header != 'X-Forwarded-For'))
    with start_before(f'http://127.0.0.1:{backend.server_port}') as address:
        set_by_proxy = [['x-forwarded-for', '127.0.0.1'], ['x-forwarded-host', address], ['x-forwarded-proto', 'http']]

        def get(path, headers):
            connection = http.client.HTTPConnection(address, timeout=START_DEADLINE)
            with contextlib.closing(connection):
                connection.putrequest('GET', path, skip_host=any(header == 'Host' for header, _ in headers))
                for header, value in headers:
                    connection.putheader(header, value)
                connection.endheaders()
                answer = connection.getresponse()
                return answer.status, answer.read()

        # Varnish has a way of its own for each of these.
        for path, accept in [('/streams/books', ATOM_JSON), ('/streams/books', 'text/event-stream'), ('/users/ops', 'application/json')]:
            for extra in [FORGED, FORGED + FORGED, FORGED + [named]]:
                status, body = get(path, [('Accept', accept)] + extra)
                if named in extra and status == 400:
                    continue
                assert status == 200, (name, path, accept, status)
                forged = [header.lower() for header, _ in FORGED]
                arrived = sorted(header for header in json.loads(body) if header[0] in forged)
                assert arrived == set_by_proxy, (name, path, accept, arrived)
        for hosts in [['evil.example'], [f'evil.example:{address.split(":")[1]}'], [f'evil.example, {address}'], [address, 'evil.example'], ['evil.example', address]]:
            status, _ = get('/streams/books', [('Host', host) for host in hosts])
            assert status in (400, 421), (name, hosts, status)
    backend.shutdown()


def main(base, password):
    logging.disable(logging.CRITICAL)
    append(base, 'books', [{'eventType': 'sold', 'data': {'n': n}, 'metadata': {'by': 'card'}} for n in range(EVENTS)])
    append(base, '$$books', [{'eventType': '$metadata', 'data': {'$cacheControl': 0, 'of': 'books'}}])
    append(base, 'odd', [{'eventType': 'o<&>', 'data': {'$a': [1, [2], None], 'b c': '<&"\u20ac\u0001'}}, {'eventType': 'text', 'data': 'plain <&>'}, {'eventType': 'list', 'data': [1, {'x': []}]},
                         {'eventType': 'names', 'data': {'@xmlns': 'urn:d', '@xmlns:p': 'urn:p', 'p:a': {'@xml:lang': 'en', '@p:b': 1}, 'q:a': 2}}])
    append(base, 'links', [{'eventType': '$>', 'data': '1@books'}, {'eventType': '$>', 'data': '7@nowhere'}])
    append(base, 'empty', [{'eventType': 't', 'data': {}}])
    append(base, '$$empty', [{'eventType': '$metadata', 'data': {'$tb': 1}}])
    with behind(NGINX, base) as address:
        for check, arguments in [(a_feed_reader_reads_every_page, [base]), (documents_follow_the_grammar_of_atom, [base, password]),
                                 (a_client_of_the_original_walks_a_stream, [base]), (a_caching_proxy_keeps_old_pages_and_no_others, [base, f'http://{address}'])]:
            check(*arguments)
            print('ok  ', check.__name__.replace('_', ' '))
    for check, arguments in [(nobody_poisons_a_cache, [base]), (no_forged_header_passes_a_proxy, []), (a_cache_of_a_client_keeps_the_type, [base]),
                             (times_are_read_by_strict_parsers, [base])]:
        check(*arguments)
        print('ok  ', check.__name__.replace('_', ' '))


if __name__ == '__main__':
    main(*sys.argv[1:])
