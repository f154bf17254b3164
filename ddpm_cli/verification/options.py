"""The options of `ddpm verify`, see conf/verify.yaml."""

from dataclasses import dataclass, field

from ..build import check_fields
from ..text import NameText, PathText


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Raises ConfigError for a wrong type, ValueError for a value out of range."""

    ckpt: PathText | None
    deep: bool
    root: PathText | None
    run_dir: PathText
    kills: int
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.deep and self.ckpt is None:
            raise ValueError("deep: needs a run; set ckpt=RUN")
        if self.kills < 1:
            raise ValueError(f"kills: must be at least 1, got {self.kills}")
