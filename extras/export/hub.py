"""An exported folder sent to the hub of Hugging Face, where `hf download` fetches it."""

from pathlib import Path

from huggingface_hub import HfApi, get_token

from common.files import UserError
from models import first_line

REASONS = {
    401: "the token is not valid: `hf auth login`, or HF_TOKEN",
    403: "the token has no right to write there",
    404: "there is no such owner",
}


def check_token() -> None:
    """Refuse to begin what could not be sent."""
    if not get_token():
        raise UserError("--push needs a token that may write: `hf auth login` first, or HF_TOKEN")


def push(folder: Path | str, name: str) -> str:
    """Send a folder to the repository `name`, private if it is new; return its address.

    Files there that the folder lacks stay.
    """
    hub = HfApi()
    try:
        address = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=name, folder_path=folder, commit_message="A run of predict.py --export"
        )
    except Exception as error:  # of another package, which has many of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = REASONS.get(status) or first_line(error)[:200]
        raise UserError(
            f"{name} was not sent to {hub.endpoint} ({reason}): {folder} is whole, "
            f"`hf upload --private {name} {folder}` sends it later"
        ) from None
    return str(address)
