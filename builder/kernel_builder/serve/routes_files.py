"""Files: listing them, describing them, and giving their bytes."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_text
from kernel_builder.serve.describe import describe_path, find_last_commits
from kernel_builder.serve.faults import RequestError, bad_request, no_such_entry
from kernel_builder.serve.names import parse_file_path, parse_folder_path
from kernel_builder.serve.paging import cut_page, read_flag
from kernel_builder.serve.registry import open_repository, word
from kernel_builder.serve.storage import Blob

_PAGE, _EXPANDED_PAGE = 1000, 50
_MAX_PATHS = 10_000
_QUICKLY_READ = 64 << 20  # whoever only asks about a larger file would wait too long for it to be hashed
_TEXTS = {
    ".txt": "text/plain",
    ".md": "text/plain",
    ".py": "text/plain",
    ".toml": "text/plain",
    ".json": "application/json",
}


def list_tree(request: Request) -> Response:
    """List a folder, or with `recursive` all that is below it."""
    repository, _ = open_repository(request)
    head, tree = repository.tree_at(word(request, "revision"))
    folder = parse_folder_path(word(request, "path")) if "path" in request.path_params else ""
    if folder and folder not in tree.folders:
        raise no_such_entry(folder)
    expand = read_flag(request, "expand")
    names = list(tree.walk(folder) if read_flag(request, "recursive") else tree.children(folder))
    page, headers = cut_page(request, names, _EXPANDED_PAGE if expand else _PAGE)
    last = find_last_commits(repository, head, list(page)) if expand else {}
    return JSONResponse([describe_path(tree, path, last.get(path)) for path in page], headers=headers)


async def describe_paths(request: Request) -> Response:
    """Describe those of the named files and folders that exist."""
    try:
        fields = parse_qs(await read_text(request), max_num_fields=_MAX_PATHS, errors="strict")
    except ValueError as error:
        raise bad_request(f"the body is not a form with at most {_MAX_PATHS} fields in UTF-8") from error
    paths = [path.rstrip("/") for path in fields.get("paths", [])]
    expand = fields.get("expand", [""])[0].lower() in {"1", "true"}

    def work() -> Response:
        repository, _ = open_repository(request)
        head, tree = repository.tree_at(word(request, "revision"))
        found = [path for path in dict.fromkeys(paths) if path in tree]
        last = find_last_commits(repository, head, found) if expand else {}
        return JSONResponse([describe_path(tree, path, last.get(path)) for path in found])

    return await run_in_threadpool(work)


def resolve(request: Request) -> Response:
    """Give a file's bytes, all or a range; or only what there is to know of it."""
    repository, _ = open_repository(request)
    commit, tree = repository.tree_at(word(request, "revision"))
    path = parse_file_path(word(request, "path"))
    entry = tree.entries.get(path)
    if entry is None:
        error = no_such_entry(path)
        raise RequestError(error.status, error.message, code=error.code, headers={"X-Repo-Commit": commit})
    name = PurePosixPath(path).name
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": commit,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
        # What users upload is never to run in the browser of whoever looks at it.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    if entry.is_large:
        headers |= {"X-Linked-ETag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
    if f'"{entry.etag}"' in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    storage, too_long = repository.storage, request.method == "HEAD" and entry.size > _QUICKLY_READ
    if too_long and storage.has(Blob(entry.sha256, entry.size)):
        content = storage.blob_path(entry.sha256)
    else:
        content = storage.find(entry.sha256, entry.git_oid)
    media_type = _TEXTS.get(PurePosixPath(path).suffix, "application/octet-stream")
    return FileResponse(content, headers=headers, media_type=media_type, stat_result=content.stat())


_API = "/api/{kinds}/{namespace}/{name}"

ROUTES = [
    Route(f"{_API}/tree/{{revision}}", list_tree),
    Route(f"{_API}/tree/{{revision}}/{{path:path}}", list_tree),
    Route(f"{_API}/paths-info/{{revision}}", describe_paths, methods=["POST"]),
    Route("/{kinds}/{namespace}/{name}/resolve/{revision}/{path:path}", resolve),
    Route("/{namespace}/{name}/resolve/{revision}/{path:path}", resolve),
]
