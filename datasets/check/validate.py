#!/usr/bin/env python3
"""Checks check-v1.jsonl: counts, ids, balance, form of the messages, evidence, duplicates, lengths."""
import collections
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = ["id", "category", "claim", "is_vulnerable", "kind", "reason", "request", "response"]
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
problems = []


def check(ok, where, what):
    if not ok:
        problems.append(f"{where}: {what}")


def message(where, raw, start):
    """start line, header fields and Content-Length of one raw message"""
    head, sep, body = raw.partition("\r\n\r\n")
    check(sep, where, "head is not ended by an empty line")
    lines = head.split("\r\n")
    check(re.fullmatch(start, lines[0]), where, f"start line {lines[0]!r}")
    check("\n" not in head.replace("\r\n", ""), where, "bare LF in head")
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        check(colon and TOKEN.match(name), where, f"header line {line!r}")
        if name.lower() == "content-length":
            check(value.strip() == str(len(body.encode())), where, f"Content-Length {value} != {len(body.encode())}")
    if start.startswith("[A-Z]"):
        check(any(l.lower().startswith("host:") for l in lines[1:]), where, "no Host")


with open(os.path.join(HERE, "check-v1.jsonl"), encoding="utf-8") as f:
    items = [json.loads(line) for line in f]

check(len(items) == 150, "file", f"{len(items)} lines")
check(len({i["id"] for i in items}) == len(items), "file", "ids not unique")
expected = [f"check-{c}-{n:03d}" for c in "hx" for n in range(1, 76)]
check([i["id"] for i in items] == expected, "file", "ids not as expected")

pairs, kinds = set(), collections.defaultdict(lambda: [0, 0])
stats = collections.defaultdict(list)
for i in items:
    c, where = i["claim"], i["id"]
    check(list(i) == FIELDS, where, "fields or their order")
    check(set(c) <= {"parameter", "header", "evidence", "text"} and c.get("text"), where, "claim fields")
    check(i["category"] == {"h": "HTTP_HEADERS", "x": "XSS"}[where[6]], where, "category")
    check(isinstance(i["is_vulnerable"], bool), where, "label")
    check(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", i["kind"]), where, "kind")
    message(where + " request", i["request"], r"[A-Z]+ /\S* HTTP/(1\.1|2)")
    message(where + " response", i["response"], r"HTTP/(1\.1 \d{3} [ -~]+|2 \d{3})")
    if "evidence" in c:
        check(c["evidence"] in i["response"] or c["evidence"] in i["request"], where, "evidence does not occur")
    check((i["request"], i["response"]) not in pairs, where, "duplicate pair")
    check(len(i["response"].encode()) in range(250, 3073), where, f"response has {len(i['response'].encode())} bytes")
    pairs.add((i["request"], i["response"]))
    kinds[i["category"], i["kind"]][not i["is_vulnerable"]] += 1
    stats[i["category"], i["is_vulnerable"]].append(i)

print(f"{'category':14}{'kind':28}{'true':>5}{'false':>6}")
for (cat, kind), (t, f) in sorted(kinds.items()):
    print(f"{cat:14}{kind:28}{t:5}{f:6}")
print()
print(f"{'category':14}{'label':7}{'n':>4}{'mean resp':>10}{'min':>6}{'max':>6}{'mean req':>9}{'claim':>7}{'param':>6}{'header':>7}{'evid':>5}")
for (cat, label), g in sorted(stats.items(), reverse=True):
    size = [len(i["response"].encode()) for i in g]
    has = [sum(k in i["claim"] for i in g) for k in ("parameter", "header", "evidence")]
    print(f"{cat:14}{str(label).lower():7}{len(g):4}{sum(size) / len(g):10.0f}{min(size):6}{max(size):6}"
          f"{sum(len(i['request']) for i in g) / len(g):9.0f}{sum(len(i['claim']['text']) for i in g) / len(g):7.0f}"
          f"{has[0]:6}{has[1]:7}{has[2]:5}")
for cat in ("HTTP_HEADERS", "XSS"):
    t, f = stats[cat, True], stats[cat, False]
    check(sorted((len(t), len(f))) == [37, 38], cat, f"balance {len(t)}/{len(f)}")
    mt, mf = (sum(len(i["response"].encode()) for i in g) / len(g) for g in (t, f))
    check(abs(mt - mf) <= 0.1 * max(mt, mf), cat, f"mean response length {mt:.0f} / {mf:.0f}")

print()
print("\n".join(problems) or "validate.py: all checks passed")
sys.exit(bool(problems))
