"""Looks for secrets in the log of a node: `log_secrets.py LOG NAME:PASSWORD...` fails when it finds
a secret."""
import base64, sys

# The signs of a secret, whatever its value: the hash of a password, a key in PEM.
SIGNS = ['$argon2', 'PRIVATE KEY-----']


def scan(path, logins):
    """Lines of a log with a password, plain or as it is sent, or with any hash or key."""
    secrets = list(SIGNS)
    for login in logins:
        secrets += [login.split(':', 1)[1], base64.b64encode(login.encode()).decode()]
    with open(path, errors='replace') as log:
        lines = log.readlines()
    assert any('listening' in line for line in lines), f'{path} is not the log of a node'
    return [line.rstrip() for line in lines if any(secret in line for secret in secrets)]


if __name__ == '__main__':
    found = scan(sys.argv[1], sys.argv[2:])
    if found:
        sys.exit(f'{len(found)} lines of the log hold a secret, such as:\n{found[0]}')
    print('no secret in the log')
