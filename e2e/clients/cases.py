"""Runs the cases of one client program: one line per case, so that two runs can be compared."""
import os
import sys
import traceback

HOST, PORT, USER, PASSWORD, DATABASE, PREFIX = sys.argv[1:7]
PORT = int(PORT)
CASES = []


def case(function):
    CASES.append(function)
    return function


def table(name):
    return PREFIX + "_" + name


def report(name, result=None, error=None):
    if error is not None:
        if os.environ.get("CLIENT_TRACE"):
            traceback.print_exception(error)
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
        print(f"FAIL {name}: {type(error).__name__} {code} {str(error).splitlines()[0] if str(error) else ''}", flush=True)
    else:
        print(f"ok {name}: {result!r}", flush=True)


def run():
    for function in CASES:
        try:
            report(function.__name__, result=function())
        except Exception as error:  # every case is reported, whatever became of it
            report(function.__name__, error=error)


async def run_async():
    for function in CASES:
        try:
            report(function.__name__, result=await function())
        except Exception as error:
            report(function.__name__, error=error)
