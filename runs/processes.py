"""What scripts that run a server, or watch the machine meanwhile, have in common. Not a script itself."""
import http.client
import os
import socket
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_until_ready(server, port):
    """Until /health says 200; ends the script when the server ends, or after four minutes."""
    for _ in range(1200):
        if server.poll() is not None:
            raise SystemExit('the server ended by itself')
        try:
            link = http.client.HTTPConnection('127.0.0.1', port, timeout=2)
            link.request('GET', '/health')
            if link.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit('the server does not become ready')


def busy_seconds():
    """CPU seconds that all CPUs have spent on anything, stolen time included."""
    with open('/proc/stat', encoding='ascii') as file:
        user, nice, system, _, _, irq, softirq, steal = [int(word) for word in file.readline().split()[1:9]]
    return (user + nice + system + irq + softirq + steal) / os.sysconf('SC_CLK_TCK')


def cpu_seconds(pid):
    """CPU seconds of a process, all its threads."""
    with open(f'/proc/{pid}/stat', encoding='ascii') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
