"""Runs inside the client pod, on the standard library alone: one conversation with an assistant, as JSON in and out.

stdin: {"base": URL, "cookie": str, "steps": [[METHOD, PATH, BODY], ...], "seconds": s}. Each step is retried until it
answers 2xx or the seconds are over; stdout: {"cookie": str, "turns": [{"status", "body", "seconds"}]}. Status 0:
no answer.
"""

import json
import sys
import time
import urllib.error
import urllib.request


def kept(cookie, given):
    pairs = dict(pair.split("=", 1) for pair in [*cookie.split("; "), *given] if "=" in pair)
    return "; ".join(f"{name}={value}" for name, value in pairs.items())


def call(base, method, path, body, cookie):
    headers = {"Content-Type": "application/json", **({"Cookie": cookie} if cookie else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            given = [line.split(";")[0] for line in answer.headers.get_all("Set-Cookie", [])]
            return answer.status, json.loads(answer.read() or b"{}"), kept(cookie, given)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            return error.code, json.loads(text), cookie
        except ValueError:
            return error.code, {"text": text}, cookie
    except (OSError, ValueError) as error:
        return 0, {"text": f"{type(error).__name__}: {error}"}, cookie


def main():
    job = json.load(sys.stdin)
    cookie, turns, begun = job["cookie"], [], time.monotonic()
    deadline = begun + job["seconds"]
    for method, path, body in job["steps"]:
        while True:
            status, found, cookie = call(job["base"], method, path, body, cookie)
            if 200 <= status < 300 or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        turns.append({"status": status, "body": found, "seconds": time.monotonic() - begun})
    json.dump({"cookie": cookie, "turns": turns}, sys.stdout)


main()
