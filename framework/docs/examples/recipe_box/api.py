"""JSON for programs. Each page is JSON at its own URL, too: /recipes/Bean_soup.json"""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unwritten import OverBudget, Router

router = Router()


class Idea(BaseModel):
    title: str
    minutes: int


@router.route("/search")
def search(request: Request) -> Response:
    app = router.app
    found = app.store.search(request.query_params.get("q", ""))
    return JSONResponse([{"title": page.title, "url": app.link(page.key)} for page in found])


@router.route("/idea")
async def idea(request: Request) -> Response:
    with_what = request.query_params.get("with", "")[:80]
    try:
        found = await router.app.generate(f"A dish with {with_what or 'what is in season'}.", schema=Idea)
    except OverBudget as refused:
        return JSONResponse({"error": str(refused)}, 429, {"Retry-After": str(refused.retry_after)})
    key = router.app.url_path_for("recipe", title=found.title, default=None)  # None: no page can have this title
    return JSONResponse({**found.model_dump(), "url": router.app.link(key) if key else None})
