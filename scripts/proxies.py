"""Starts programs of others in front of nodes, with the files of deploy or with some of a test."""
import contextlib, os, socket, subprocess, tempfile, time

import requests

HERE = os.path.dirname(os.path.abspath(__file__))
START_DEADLINE = 120  # seconds, on a machine that builds something else meanwhile


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


@contextlib.contextmanager
def in_front(conf, command):
    """Runs a program in front of nodes and gives its address. `conf(directory, port)` is the text of
    its file, `command(file, directory, port)` how it is run; the directory is its own."""
    with tempfile.TemporaryDirectory() as directory:
        # The workers of nginx give up the rights of root and must reach their cache.
        os.chmod(directory, 0o755)
        port = free_port()
        file = f'{directory}/conf.yaml'  # Envoy goes by the ending
        with open(file, 'w') as opened:
            opened.write(conf(directory, port))
        with running(command(file, directory, port), f'http://127.0.0.1:{port}/ping'):
            yield f'127.0.0.1:{port}'


def documented(file, replacements):
    """A file of deploy with the ports of this test."""
    with open(f'{HERE}/../deploy/{file}') as opened:
        text = opened.read()
    for written, used in replacements:
        assert written in text, (file, written)
        text = text.replace(written, used)
    return text


def nginx_conf(directory, http):
    """A whole file for nginx, which keeps all that it writes in a directory of the test; `http` is
    what its block of that name has."""
    return f'''
daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
{http}
}}
'''


def nginx_command(file, directory, port):
    return ['nginx', '-c', file, '-e', f'{directory}/error.log']


def haproxy_command(file, directory, port):
    return ['haproxy', '-db', '-f', file]
