"""The files for Prometheus and Grafana in deploy, with Debian's Prometheus. Run by
scripts/deployment; the arguments are the folder of its programs and the addresses of the nodes of a
cluster."""
import json, os, subprocess, sys, tempfile, time

import requests

from clients import append
from proxies import HERE, free_port, running

DEPLOY = os.path.abspath(f'{HERE}/../deploy')
# Until Prometheus has asked every node twice; it asks every second.
SCRAPE_DEADLINE = 60


def alerts_do_what_they_say(programs):
    for arguments in [['check', 'config', 'prometheus.yml'], ['check', 'rules', 'alerts.yml'], ['test', 'rules', 'alerts.test.yml']]:
        checked = subprocess.run([f'{programs}/promtool', *arguments], cwd=f'{DEPLOY}/prometheus', capture_output=True, text=True)
        assert checked.returncode == 0, f'promtool {arguments}: {checked.stdout}{checked.stderr}'


def configuration(nodes):
    """deploy/prometheus/prometheus.yml for these nodes, in a hurry."""
    with open(f'{DEPLOY}/prometheus/prometheus.yml') as file:
        text = file.read()
    targets = '["node1:2113", "node2:2113", "node3:2113"]'
    for written, used in [(targets, json.dumps(nodes)), ('scrape_interval: 15s', 'scrape_interval: 1s'), ('[alerts.yml]', f'[{DEPLOY}/prometheus/alerts.yml]')]:
        assert written in text, written
        text = text.replace(written, used)
    return text


def until(what, condition):
    started = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - started < SCRAPE_DEADLINE, what
        time.sleep(0.1)  # polling interval
    return found


def answer(base, path, **query):
    answer = requests.get(f'{base}/api/v1/{path}', params=query, timeout=30)
    assert answer.status_code == 200, (query, answer.text)
    return answer.json()['data']


def every_panel_shows_something(base):
    """But those of certificates, and rates of what never happened."""
    with open(f'{DEPLOY}/grafana/dashboards/headwater.json') as file:
        panels = [panel for panel in json.load(file)['panels'] if panel['type'] != 'row']
    for panel in panels:
        shown = []
        for target in panel['targets']:
            query = target['expr'].replace('$job', 'headwater').replace('$__rate_interval', '10s')
            shown += until(f'no data for {panel["title"]}: {query}', lambda: panel['title'] in ('Certificates', 'Refused handshakes', 'Answers with 5xx') and [None] or answer(base, 'query', query=query)['result'])
        if panel['title'] == 'Leader':
            assert len(shown) == 1, shown
    return len(panels)


def main(programs, *nodes):
    alerts_do_what_they_say(programs)
    with tempfile.TemporaryDirectory() as directory:
        with open(f'{directory}/prometheus.yml', 'w') as file:
            file.write(configuration(nodes))
        port = free_port()
        base = f'http://127.0.0.1:{port}'
        arguments = [f'{programs}/prometheus', f'--config.file={directory}/prometheus.yml', f'--storage.tsdb.path={directory}/data', f'--web.listen-address=127.0.0.1:{port}', '--log.level=error']
        with running(arguments, f'{base}/-/ready'):
            until('all nodes are asked', lambda: [target['health'] for target in answer(base, 'targets')['activeTargets']] == ['up'] * len(nodes))
            append(f'http://{nodes[0]}', 'watched', [{'eventType': 'seen', 'data': {}}])
            rules = [rule for group in answer(base, 'rules')['groups'] for rule in group['rules']]
            assert len(rules) > 10 and all(rule.get('health') != 'err' for rule in rules), rules
            panels = every_panel_shows_something(base)
            firing = [alert for alert in answer(base, 'alerts')['alerts'] if alert['state'] == 'firing']
            assert firing == [], firing
    print(f'ok   {len(rules)} alerts and {panels} panels')


if __name__ == '__main__':
    main(*sys.argv[1:])
