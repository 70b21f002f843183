"""Whether a store of blobs can be used as it is asked for: tried, before a campaign begins.

Covered: a wrong bucket or credentials, a store that takes a body other than the one that a link is
signed for, one that gives its files to anybody, and one that is reached without TLS. Not covered:
who else has credentials of it.
"""

import secrets
from contextlib import suppress

import httpx

from aarlab.core.errors import AarlabError, BadInput, Unavailable
from aarlab.core.hashing import sha256_hex
from aarlab.core.links import CHECKSUM, check_link, checksum, keep_out_of_logs, refusal
from aarlab.store.blobs import Blobs, Folder

TIMEOUT_S = 20.0
N_BYTES = 32


def check_store(folder: Folder, direct: bool) -> None:
    """Put and get a blob; by links, as AARs do, if the store is to be used directly.

    Raises BadInput for a store that cannot be used so, NotFound for a bucket that is not there,
    Unavailable for a store that does not answer or refuses its credentials.
    """
    if direct:
        _check_links(folder)
        return
    blobs = Blobs(folder.sub("probe"))
    sha = blobs.put(secrets.token_bytes(N_BYTES))
    blobs.get(sha)
    blobs.drop([sha])


def _check_links(folder: Folder) -> None:
    if not folder.is_bucket:
        raise BadInput(
            "AARLAB_SERVER_BLOBS_DIRECT needs a bucket: AARLAB_SERVER_BLOBS=s3://BUCKET/PREFIX"
        )
    right, wrong = secrets.token_bytes(N_BYTES), secrets.token_bytes(N_BYTES)
    sha, blobs = sha256_hex(right), Blobs(folder.sub("probe"))
    put, get = blobs.link_to_put(sha, N_BYTES), blobs.link_to_get(sha)
    check_link(put)
    keep_out_of_logs()

    def sent(method: str, url: str, body: bytes | None = None) -> httpx.Response:
        headers = {} if body is None else {CHECKSUM: checksum(sha)}
        return client.request(method, url, content=body, headers=headers)

    with httpx.Client(timeout=TIMEOUT_S) as client:
        try:
            _succeeds(folder, sent("PUT", put, right))
            for body in (wrong, right + wrong):
                if sent("PUT", put, body).is_success:
                    raise BadInput(
                        f"{folder.url} takes other bytes than a link is signed for: its store does "
                        f"not check {CHECKSUM}. Leave AARLAB_SERVER_BLOBS_DIRECT unset"
                    )
            if sent("GET", get.partition("?")[0]).is_success:
                raise BadInput(f"{folder.url} gives its files to anybody: close the bucket")
            if _succeeds(folder, sent("GET", get)).content != right:
                raise BadInput(f"{folder.url} gives back other bytes than were put")
        except httpx.TransportError as error:
            raise Unavailable(f"{folder.url} does not answer: {type(error).__name__}") from None
        finally:
            with suppress(AarlabError):  # of no account beside what is raised above
                blobs.drop([sha])


def _succeeds(folder: Folder, answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise Unavailable(
            f"{folder.url} refuses a link ({refusal(answer.status_code, answer.content)}): see to "
            "the bucket, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, and to the credentials in AWS_*"
        )
    return answer
