(() => {
  const report = window.janusReport;
  if (!report) return;
  // What a page says is known by the page: reports may arrive when the next one is already loading.
  const page = (() => { try { return top.location.pathname; } catch (e) { return ''; } })();
  const say = (what) => { try { report(page + ' ' + what); } catch (e) {} };
  if (/^\/[hi][0-9]+$/.test(location.pathname)) window.janusSay = say;
  for (const name of ['alert', 'confirm', 'prompt', 'print']) {
    window[name] = function (text) { say('ran ' + String(text)); return name === 'confirm' ? true : null; };
  }
  say('document ' + (window === top ? 'top ' : 'frame ') + location.href);
  if (window !== top) return;
  // Navigation away is blocked: only a javascript: address may be followed.
  addEventListener('click', (event) => {
    const link = event.target && event.target.closest && event.target.closest('a');
    const to = link && (link.href && link.href.baseVal !== undefined ? link.href.baseVal : link.href);
    if (link && !/^\s*javascript:/i.test(String(to))) event.preventDefault();
  }, true);
  addEventListener('submit', (event) => {
    const by = event.submitter;
    const to = (by && by.getAttribute('formaction')) || event.target.getAttribute('action') || '';
    if (!/^[\u0000-\u0020]*j[\t\n\r]*a[\t\n\r]*v[\t\n\r]*a[\t\n\r]*s[\t\n\r]*c[\t\n\r]*r[\t\n\r]*i[\t\n\r]*p[\t\n\r]*t[\t\n\r]*:/i.test(to)) event.preventDefault();
  }, true);
  let poked = false;
  const poke = () => {
    if (poked) return;
    poked = true;
    try { eval('1'); say('eval'); } catch (e) { say('no eval'); }
    try { say('cookie ' + document.cookie); } catch (e) {}
    say('base ' + document.baseURI);
    // Only what has a handler or an address can do anything; pages may be long.
    const acts = (element) => {
      for (const { name } of element.attributes) {
        if (name.startsWith('on') || ['href', 'xlink:href', 'action', 'formaction'].includes(name)) return true;
      }
      return ['BUTTON', 'INPUT'].includes(element.tagName);
    };
    const all = Array.from(document.querySelectorAll('*')).filter(acts).slice(0, 300);
    for (const element of all) {
      for (const type of ['pointerover', 'pointerenter', 'mouseover', 'mouseenter', 'mousemove']) {
        try { element.dispatchEvent(new MouseEvent(type, { bubbles: type !== 'mouseenter' && type !== 'pointerenter', cancelable: true })); } catch (e) {}
      }
    }
    for (const element of all) {
      try { if (element.focus && element.tabIndex >= 0) element.focus(); element.dispatchEvent(new FocusEvent('focus')); } catch (e) {}
      try {
        if (element.click) element.click(); else element.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true }));
      } catch (e) {}
    }
    setTimeout(() => say('done'), PATIENCE);
  };
  addEventListener('load', () => setTimeout(poke, 10));
  addEventListener('DOMContentLoaded', () => setTimeout(poke, 600));
})();
