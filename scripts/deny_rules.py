"""The rules of deny.toml for licences, sources and bans, for machines without cargo-deny. It allows
nothing that cargo-deny forbids."""
import json, os, re, subprocess, sys, tomllib

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
CRATES_IO = 'registry+https://github.com/rust-lang/crates.io-index'


def is_allowed(expression, allowed):
    """An SPDX expression; the slash is how older crates write OR."""
    tokens = re.findall(r'[()]|[^\s()]+', expression.replace('/', ' OR '))

    def either():
        found = both()
        while tokens and tokens[0] == 'OR':
            tokens.pop(0)
            found = both() or found
        return found

    def both():
        found = one()
        while tokens and tokens[0] == 'AND':
            tokens.pop(0)
            found = one() and found
        return found

    def one():
        token = tokens.pop(0)
        if token == '(':
            found = either()
            assert tokens.pop(0) == ')', expression
            return found
        if tokens and tokens[0] == 'WITH':
            token = f'{token} WITH {tokens[1]}'
            del tokens[:2]
        return token in allowed

    found = either()
    assert not tokens, expression
    return found


def complaints(rules, metadata):
    allowed = set(rules['licenses']['allow'])
    banned = {ban['name'] for ban in rules['bans']['deny']}
    own = set(metadata['workspace_members'])
    for package in metadata['packages']:
        name = f"{package['name']} {package['version']}"
        if package['id'] in own:
            # cargo-deny ignores the licence of unpublished packages, and wildcards between members.
            for dependency in package['dependencies']:
                if dependency['req'] == '*' and not dependency.get('path'):
                    yield f"{name} takes any version of {dependency['name']}"
            continue
        if not package['license'] or not is_allowed(package['license'], allowed):
            yield f"{name} has the licence {package['license']}"
        if package['source'] != CRATES_IO:
            yield f"{name} comes from {package['source']}"
        if package['name'] in banned:
            yield f'{name} is banned'


def check_the_check():
    allowed = {'MIT', 'Apache-2.0 WITH LLVM-exception'}
    for good in ['MIT', 'GPL-3.0 OR MIT', 'MIT/GPL-3.0', '(GPL-3.0 OR MIT) AND MIT', 'Apache-2.0 WITH LLVM-exception AND MIT']:
        assert is_allowed(good, allowed), good
    for bad in ['GPL-3.0', 'MIT AND GPL-3.0', 'MIT AND (GPL-3.0 OR ISC)', 'Apache-2.0']:
        assert not is_allowed(bad, allowed), bad
    rules = {'licenses': {'allow': ['MIT']}, 'bans': {'deny': [{'name': 'bad'}]}}
    package = {'id': 'x', 'name': 'bad', 'version': '1.0.0', 'license': 'GPL-3.0', 'source': 'git+https://x', 'dependencies': []}
    own = {**package, 'id': 'own', 'dependencies': [{'name': 'any', 'req': '*'}]}
    assert len(list(complaints(rules, {'workspace_members': ['own'], 'packages': [own, package]}))) == 4


if __name__ == '__main__':
    check_the_check()
    with open('deny.toml', 'rb') as file:
        rules = tomllib.load(file)
    said = subprocess.run(['cargo', 'metadata', '--format-version', '1', '--locked', '--all-features'], check=True, capture_output=True)
    metadata = json.loads(said.stdout)
    assert len(metadata['packages']) > 100, 'these are not all dependencies'
    found = list(complaints(rules, metadata))
    print('\n'.join(found) or f"licences, sources and bans of {len(metadata['packages'])} packages are in order; advisories NOT checked")
    sys.exit(1 if found else 0)
