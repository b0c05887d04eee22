"""Reads the feeds of a fresh node with the software of others. Run by scripts/clients; the
arguments are the node's base and the password of its user admin."""
import asyncio, contextlib, json, logging, os, socket, subprocess, sys, tempfile, time, types, uuid

import aiohttp
import feedparser
import requests
from atomicpuppy.atomicpuppy import StreamReader, SubscriptionInfoStore

HERE = os.path.dirname(os.path.abspath(__file__))
EVENTS = 45
START_DEADLINE = 120  # seconds, on a machine that builds something else meanwhile
ATOM_XML, ATOM_JSON = 'application/atom+xml', 'application/vnd.eventstore.atom+json'
PLAIN = requests.Session()
PLAIN.headers['Accept-Encoding'] = 'identity'


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(arguments, ready_url):
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    try:
        started = time.monotonic()
        while True:
            assert process.poll() is None, f'{arguments[0]} ended'
            try:
                if requests.get(ready_url, timeout=5).status_code < 500:
                    break
            except requests.ConnectionError:
                pass
            assert time.monotonic() - started < START_DEADLINE, f'{arguments[0]} is not ready'
            time.sleep(0.05)  # polling interval
        yield
    finally:
        process.terminate()
        process.wait(30)


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


def nginx_conf(directory, port, node):
    return f'''
daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    proxy_cache_path {directory}/cache keys_zone=feeds:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {node};
            proxy_cache feeds;
            # nginx does not pass If-None-Match on where it caches, and ignores it for answers that
            # it may not cache.
            proxy_set_header If-None-Match $http_if_none_match;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
'''


def main(base, password):
    logging.disable(logging.CRITICAL)
    append(base, 'books', [{'eventType': 'sold', 'data': {'n': n}, 'metadata': {'by': 'card'}} for n in range(EVENTS)])
    append(base, '$$books', [{'eventType': '$metadata', 'data': {'$cacheControl': 0, 'of': 'books'}}])
    append(base, 'odd', [{'eventType': 'o<&>', 'data': {'$a': [1, [2], None], 'b c': '<&"\u20ac\u0001'}}, {'eventType': 'text', 'data': 'plain <&>'}, {'eventType': 'list', 'data': [1, {'x': []}]},
                         {'eventType': 'names', 'data': {'@xmlns': 'urn:d', '@xmlns:p': 'urn:p', 'p:a': {'@xml:lang': 'en', '@p:b': 1}, 'q:a': 2}}])
    append(base, 'links', [{'eventType': '$>', 'data': '1@books'}, {'eventType': '$>', 'data': '7@nowhere'}])
    append(base, 'empty', [{'eventType': 't', 'data': {}}])
    append(base, '$$empty', [{'eventType': '$metadata', 'data': {'$tb': 1}}])
    with tempfile.TemporaryDirectory() as directory:
        # nginx gives up the rights of root where it has them, and its workers must reach their
        # cache.
        os.chmod(directory, 0o755)
        port = free_port()
        proxy = f'http://127.0.0.1:{port}'
        with open(f'{directory}/nginx.conf', 'w') as file:
            file.write(nginx_conf(directory, port, base))
        with running(['nginx', '-c', f'{directory}/nginx.conf', '-e', f'{directory}/error.log'], f'{proxy}/ping'):
            for check, arguments in [(a_feed_reader_reads_every_page, [base]), (documents_follow_the_grammar_of_atom, [base, password]),
                                     (a_client_of_the_original_walks_a_stream, [base]), (a_caching_proxy_keeps_old_pages_and_no_others, [base, proxy])]:
                check(*arguments)
                print('ok  ', check.__name__.replace('_', ' '))


if __name__ == '__main__':
    main(*sys.argv[1:])
