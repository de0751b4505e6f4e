"""Processes that a run starts: each in a group of its own, all ended when the run ends, however it ends.

What is read of a process comes from /proc: CPU time in seconds, memory in MB (of 1,000,000 bytes).
"""

import atexit
import os
import signal
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")
_running = []


def start(command, environment=None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL):
    """Starts a process in a group of its own. `environment` is added to ours, less what configures Rowgate."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROWGATE_")}
    clean.update(environment or {})
    process = subprocess.Popen(
        [str(part) for part in command],
        env=clean, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
    )
    _running.append(process)
    return process


def stop(process):
    """Asks a process to end, and its group to, if it does not in ten seconds. Waits until it is gone."""
    if process in _running:
        _running.remove(process)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def stop_all_at_exit():
    """Ctrl-C, a signal or an error: nothing is left running."""
    def end(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)

    @atexit.register
    def _stop_all():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(list(_running)):
            stop(process)


def run(command, environment=None, **how):
    """Runs a command to its end and returns what it printed; an error with what it said otherwise."""
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **(environment or {})},
        text=True, capture_output=True, **how,
    )
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def _stat(pid):
    """The fields of /proc/<pid>/stat after the name; the first is the state."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def family(pid):
    """A process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat(entry)[1]), []).append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo.extend(children.get(found[-1], []))
    return found


def cpu(pids):
    """CPU seconds that these processes and their ended children have used."""
    return sum(cpu_and_kernel(pids))


def cpu_and_kernel(pids):
    """The same in two parts: outside the kernel, and in it."""
    outside = kernel = 0
    for pid in pids:
        try:
            fields = [int(field) for field in _stat(pid)[11:15]]
        except (FileNotFoundError, ProcessLookupError):
            continue
        outside += fields[0] + fields[2]
        kernel += fields[1] + fields[3]
    return outside / TICK, kernel / TICK


def memory(pids):
    """Resident MB of these processes: now, the part of it that is no file, and the most there ever was."""
    sums = {"VmRSS": 0, "RssAnon": 0, "VmHWM": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as file:
                for line in file:
                    name, _, value = line.partition(":")
                    if name in sums:
                        sums[name] += int(value.split()[0]) * 1024 / 1e6
        except (FileNotFoundError, ProcessLookupError):
            pass
    return {"now": sums["VmRSS"], "anonymous": sums["RssAnon"], "most": sums["VmHWM"]}


def wait_for(seen, what, process=None, log=None, seconds=120, every=0.05):
    """Waits until `seen()` gives something, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = seen()
        if found:
            return found
        if process and process.poll() is not None:
            break
        time.sleep(every)
    said = open(log).read()[-2000:] if log else ""
    raise SystemExit(f"{what} did not happen:\n{said}")
