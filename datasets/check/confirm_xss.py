#!/usr/bin/env python3
"""Opens each XSS response of check-v1.jsonl in headless Chromium and reports whether its payload runs.

A response is served from 127.0.0.1 with its own status and header fields, at the path and query of its request.
The payloads call alert, confirm, prompt or print and no page of the set opens dialogs of its own, so that a dialog
means that the payload ran. Rendered elements are focused, hovered and clicked one after another until one appears.
Exit status 1 if the browser's word and the label differ for any finding.

usage: confirm_xss.py [id ...]
"""
import concurrent.futures
import json
import os
import shutil
import socketserver
import sys
import tempfile
import threading
import time
import urllib.parse

from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException, UnexpectedAlertPresentException, WebDriverException

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP * 127.0.0.1"]
DROP = {"content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive",
        "strict-transport-security"}
ELEMENTS = "return document.querySelectorAll('*').length"
# Real focus plus synthetic events on one rendered element; links and forms may only lead to javascript: URLs,
# so that the page stays (the guard comes last, in the bubbling phase of window).
POKE = """
const el = document.querySelectorAll('*')[arguments[0]];
if (!window.guarded) {
  window.guarded = true;
  const isScript = u => /^javascript:/i.test(u || '');
  const link = e => e.target instanceof Element && e.target.closest('a[href], area[href]');
  addEventListener('click', e => { const a = link(e);
    if (a && !isScript(a.protocol || (a.href && a.href.baseVal))) e.preventDefault(); });
  addEventListener('submit', e => { const b = e.submitter;
    if (!isScript(b && b.hasAttribute('formaction') ? b.formAction : e.target.action)) e.preventDefault(); });
}
if (!el || !el.getClientRects().length || el.disabled || getComputedStyle(el).visibility != 'visible') return;
if (el.focus) el.focus();
el.dispatchEvent(new FocusEvent('focus'));
for (const type of ['pointerover', 'pointerenter', 'mouseover', 'mouseenter', 'mousemove'])
  el.dispatchEvent(new MouseEvent(type, {bubbles: !type.endsWith('enter'), cancelable: true, view: window}));
if (el.click) el.click(); else el.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, view: window}));
"""


def prepare(finding):
    """(request target, bytes to be sent) of one finding"""
    target = finding["request"].split(" ", 2)[1]
    head, _, body = finding["response"].partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    code = int(status.split()[1])
    charset = "iso-8859-1" if "charset=iso-8859-1" in head.lower() else "utf-8"
    body = body.encode(charset)
    out = [f"HTTP/1.1 {code} Status"]
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() in DROP:
            continue
        if name.lower() == "location" and code // 100 == 3 and not value.strip().lower().startswith("javascript:"):
            field = "Location: /-/elsewhere"  # followed as it should be, but on this server: an empty page
        out.append(field)
    out += [f"Content-Length: {len(body)}", "Connection: close"]
    return target, "\r\n".join(out).encode(charset) + b"\r\n\r\n" + body


def serve(target, answer):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            try:
                asked = self.rfile.readline().decode("latin-1").split(" ")[1]
                while self.rfile.readline().strip():
                    pass
            except (IndexError, OSError):
                return
            path = lambda t: urllib.parse.unquote(t.partition("?")[0])
            if path(asked) == path(target):
                self.wfile.write(answer)
            else:
                code = "200 OK" if asked.startswith("/-/") else "404 Not Found"
                self.wfile.write(f"HTTP/1.1 {code}\r\nContent-Type: text/html\r\nContent-Length: 0\r\n"
                                 "Connection: close\r\n\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def guarded(call, *args):
    """a driver call that a dialog may interrupt"""
    try:
        return call(*args)
    except UnexpectedAlertPresentException:
        return None


def dialog(driver, wait=0.0):
    """whether a dialog is open or opens within the time; it is left open, since closing it may call the next one"""
    end = time.time() + wait
    while True:
        try:
            return bool(driver.switch_to.alert)
        except NoAlertPresentException:
            if time.time() >= end:
                return False
            time.sleep(0.05)


def try_out(driver, url):
    try:
        guarded(driver.get, url)
    except WebDriverException as e:  # a download has no document
        if "ERR_ABORTED" not in str(e):
            raise
    if dialog(driver, 0.5):
        return True
    for i in range(guarded(driver.execute_script, ELEMENTS) or 0):
        guarded(driver.execute_script, POKE, i)
        if dialog(driver):
            return True
    return dialog(driver, 0.3)


def runs(finding):
    """the word of a browser with a fresh profile, and its version"""
    target, answer = prepare(finding)
    server = serve(target, answer)
    profile = tempfile.mkdtemp(prefix="confirm-xss-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for flag in FLAGS + [f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.unhandled_prompt_behavior = "ignore"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(10)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument",
                               {"source": "window.print = () => alert('print')"})
        word = try_out(driver, f"http://127.0.0.1:{server.server_address[1]}{target}")
        return word, driver.capabilities["browserVersion"]
    finally:
        driver.quit()
        server.shutdown()
        server.server_close()
        shutil.rmtree(profile, ignore_errors=True)


def main():
    with open(os.path.join(HERE, "check-v1.jsonl"), encoding="utf-8") as f:
        findings = [x for x in map(json.loads, f) if x["category"] == "XSS"]
    if sys.argv[1:]:
        findings = [x for x in findings if x["id"] in sys.argv[1:]]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        words = list(pool.map(runs, findings * 2))
    first, second, version = words[:len(findings)], words[len(findings):], words[0][1]
    count = {"ok": 0, "SKIPPED": 0, "DISAGREES": 0}
    for f, (a, _), (b, _) in zip(findings, first, second):
        word = {(True, True): "executes", (False, False): "does not execute"}.get((a, b), "unsteady")
        if a == b == f["is_vulnerable"]:
            verdict = "ok"
        elif a == b and a and f["kind"] == "wrong-parameter":
            verdict = "SKIPPED"
        else:
            verdict = "DISAGREES"
        count[verdict] += 1
        print(f"{f['id']}  {str(f['is_vulnerable']).lower():5}  {word:16}  {verdict}")
    print(f"Chromium {version}: {len(findings)} findings, each opened twice: {count['ok']} ok, "
          f"{count['SKIPPED']} skipped (wrong-parameter), {count['DISAGREES']} disagree")
    return bool(count["DISAGREES"])


if __name__ == "__main__":
    sys.exit(main())
