"""Works the jobs of one queue over HTTP: python3 worker.py QUEUE, with BIPLANE_URL and BIPLANE_TOKEN (scope `work`)."""
import json, os, signal, socket, sys, threading, time, urllib.error, urllib.request

URL, QUEUE = os.environ.get("BIPLANE_URL", "http://127.0.0.1:8686"), sys.argv[1]
HEADERS = {"Authorization": "Bearer " + os.environ["BIPLANE_TOKEN"], "Content-Type": "application/json"}
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())


class Later(Exception):
    """Raised with a whole number of seconds: the job is tried again then, and no attempt is spent."""


class Bad(Exception):
    """Raised where the job would fail again."""


def ask(verb, **body):
    request = urllib.request.Request(f"{URL}/v1/work/{verb}", json.dumps(body).encode(), HEADERS)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except OSError as error:
            if getattr(error, "code", 503) != 503:  # 409: the job is not ours any more
                raise
            print("the engine is away:", error, file=sys.stderr)
        time.sleep(1)


def count(job, tell, lost):
    """Yours to replace. This one counts to `to`, and goes on where the attempt before it came to."""
    args, done = job["args"], (job["progress"] or {"done": 0})["done"]
    if args["to"] < 0:
        raise Bad("nobody counts below zero")
    while done < args["to"]:
        done += 1
        tell({"done": done})
        if args.get("nap"):
            raise Later(args["nap"])
        if lost.wait(args.get("pause", 0)):
            raise Later(0)  # one that is to be cancelled is not tried again
    return {"counted": done}


def keep(lease, ended, lost):
    """Keeps the lease until the job has ended here; `lost` where it is another's by now or is to be cancelled."""
    while not ended.wait(5) and not lost.is_set():
        try:
            if ask("heartbeat", lease=lease)["cancel"]:
                lost.set()
        except urllib.error.HTTPError:
            lost.set()


def work(lease, job):
    ended, lost = threading.Event(), threading.Event()
    threading.Thread(target=keep, args=(lease, ended, lost), daemon=True).start()
    try:
        result = count(job, lambda so_far: ask("progress", lease=lease, id=job["id"], progress=so_far), lost)
        verb, said = "complete", {"result": result}
    except Later as later:
        verb, said = "snooze", {"seconds": later.args[0]}
    except Bad as error:
        verb, said = "fail", {"code": "bad-args", "class": "permanent", "message": str(error)}
    except Exception as error:  # may pass: the kind's `retry` says how often it is tried
        verb, said = "fail", {"code": "worker-error", "message": repr(error)}
    ended.set()
    try:
        ask(verb, lease=lease, jobs=[{"id": job["id"], **said}])
    except urllib.error.HTTPError as error:
        print(f"job {job['id']} is not ours any more:", error.read().decode(), file=sys.stderr)


while not stopping.is_set():
    given = ask("claim", worker=f"{socket.gethostname()}-{os.getpid()}", queue=QUEUE, wait_seconds=20)
    for job in given["jobs"]:
        work(given["lease"], job)
