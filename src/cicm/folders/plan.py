"""What is to be done in a folder: which photos, which masks, which results are there already. Opens no picture."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cicm.conventions import InputError
from cicm.files import digest_of, is_inside, reason_of, walk
from cicm.folders.assigning import Job, MaskFolder, MaskSource, OneMask, is_picture
from cicm.folders.journal import Inputs, Ledger, digest_of_settings, read_ledger
from cicm.folders.naming import in_shard, named
from cicm.folders.outcome import Outcome
from cicm.photos.formats import ENDINGS
from cicm.photos.headers import unsupported
from cicm.terminal import several, shown

if TYPE_CHECKING:
    from cicm.inference.exemplars import Finder
    from cicm.inference.painter import PictureInpainter


@dataclass(frozen=True)
class FolderTask:
    """What is asked for.

    Args:
        photos: folder of photos; its subfolders count too, and nothing is written into it.
        out: folder of results, with the same tree; made if its parent exists.
        masks: where the holes come from.
        ending: of all results, such as ".png"; None keeps each photo's.
        overwrite: all results are made again, whatever the journal says; an interrupted run goes on where it stood.
        verify: read the results that are there, so that one whose bytes changed is noticed; their size alone is looked
            at without it.
        missing: "fail" or "skip" a photo without a mask.
        shard: (number from 1, of how many); the part of the photos that this run does.
        limit: most photos that this run fills; failures do not count.

    Raises:
        InputError: another value; a folder of results that overlaps a folder that is read.
    """

    photos: Path
    out: Path
    masks: MaskSource
    ending: str | None = None
    overwrite: bool = False
    verify: bool = False
    missing: str = "fail"
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None

    def __post_init__(self) -> None:
        number, count = self.shard
        if not 1 <= number <= count:
            raise InputError(f"a shard is a number from 1 to the number of shards, such as 3/64; got {number}/{count}.")
        if self.ending is not None and self.ending not in ENDINGS:
            raise InputError(f"results can be {', '.join(ENDINGS)}; got {self.ending!r}.")
        if self.missing not in ("fail", "skip"):
            raise InputError(f"a photo without a mask can fail or skip; got {self.missing!r}.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"the limit must be at least 1; got {self.limit}.")
        self._check_places()

    def _check_places(self) -> None:
        if os.path.lexists(self.out) and not self.out.is_dir():
            raise InputError(f"expected a folder for the results; {shown(self.out)} is a file. Name a folder.")
        if not os.path.isdir(os.path.dirname(os.path.realpath(self.out))):
            raise InputError(f"the folder {shown(self.out.parent)} does not exist. Make it first.")
        read = {"photos": self.photos}
        if isinstance(self.masks, MaskFolder):
            read["masks"] = self.masks.root
        for what, folder in read.items():
            if is_inside(self.out, folder) or is_inside(folder, self.out):
                raise InputError(
                    f"results must not get mixed up with {what}: {shown(self.out)} and {shown(folder)} are the same "
                    "folder, or one is inside the other. Choose a folder beside them."
                )
        if isinstance(self.masks, OneMask) and is_inside(self.masks.file, self.out):
            raise InputError(f"the mask {shown(self.masks.file)} is in the folder of results. Move it elsewhere.")

    def absolute(self) -> FolderTask:
        """The same, for a process that starts in another folder."""
        return replace(self, photos=self.photos.absolute(), out=self.out.absolute(), masks=self.masks.absolute())

    def settings(self, inpainter: PictureInpainter) -> dict[str, Any]:
        """All that decides about results, as plain data."""
        own = asdict(inpainter.settings)
        return {
            **own,
            **self.masks.settings(),
            "ending": self.ending or "as it was",
            "model": _name_of(inpainter.model),
            "album": _name_of_album(inpainter.album),
        }

    def all_photos(self) -> list[Path]:
        """All photos below the folder, of all shards, with a mask and without."""
        found = self.masks.assign(self.photos, walk(self.photos, is_picture, "photos"))
        names = {job.photo for job in found.jobs} | {path for path, _ in found.missing}
        return [self.photos / name for name in sorted(names)]

    def plan(self, settings: dict[str, Any] | None = None) -> FolderPlan:
        """Look at the folders and at the journals; opens no picture and writes nothing.

        Args:
            settings: of this run; without them a result made with other settings counts as made with these.

        Raises:
            InputError: folders that can't be read, no photo at all, or results that were made with other settings
                while `overwrite` is off.
        """
        found = walk(self.photos, is_picture, "photos")
        others = tuple(path for path in found.others if unsupported(path) and not self._is_mask(path))
        if not found.files:
            more = f" There are pictures of formats that are not supported: {several(others)}." if others else ""
            more += f" {found.problems[0][0]}: {found.problems[0][1]}" if found.problems else ""
            raise InputError(
                f"{shown(self.photos)} is a folder without a photo ({', '.join(ENDINGS)}), also in its subfolders."
                f"{shown(more)} Check the path."
            )
        assigned = self.masks.assign(self.photos, found)
        ledger = read_ledger(self.out)
        wanted = [(job.key, job.photo) for job in assigned.jobs]
        taken = {
            key: ledger.entries[key].output
            for key, path in wanted
            if key in ledger.entries
            and _ending(ledger.entries[key].output) == (self.ending or _ending(path))  # else it was asked for otherwise
        }
        outputs = named(wanted, self.ending, taken)
        plan = FolderPlan(unused=assigned.unused, damaged=ledger.damaged)
        plan.with_mask, plan.without_mask = len({job.photo for job in assigned.jobs}), len(assigned.missing)
        without = "failed" if self.missing == "fail" else "skipped"
        known = [(path, "failed", why) for path, why in found.problems]
        known += [(path, "unsupported", f"the format {_ending(path)} is not supported.") for path in others]
        known += [(path, without, why) for path, why in assigned.missing]
        plan.known = [Outcome(path, "", status, why) for path, status, why in known if in_shard(path, self.shard)]
        refused: list[Job] = []
        for job in assigned.jobs:
            if in_shard(job.key, self.shard):
                self._place(replace(job, output=outputs[job.key]), ledger, settings, plan, refused)
        if refused:
            raise InputError(self._refusal(refused, ledger, settings or {}))
        return plan

    def _is_mask(self, path: str) -> bool:
        """Whether a file below the photos is in the folder of masks."""
        return isinstance(self.masks, MaskFolder) and is_inside(self.photos / path, self.masks.root)

    def _place(
        self, job: Job, ledger: Ledger, settings: dict[str, Any] | None, plan: FolderPlan, refused: list[Job]
    ) -> None:
        """Decide whether a job is to be done."""
        if not ledger.proves(job.key, self.out):
            plan.todo.append(job)
            return
        entry = ledger.entries[job.key]
        if self.overwrite and entry.run not in ledger.replacing:
            plan.todo.append(job)
            return
        same_settings = settings is None or entry.settings == digest_of_settings(settings)
        try:
            same_inputs = entry.inputs == self.inputs(job)
        except InputError:  # told when its turn comes
            same_inputs = False
        whole = not self.verify or ledger.proves(job.key, self.out, read=True)
        if same_settings and same_inputs and whole:
            plan.known.append(Outcome(job.photo, job.output, "already"))
            plan.resumed |= {entry.run} & ledger.replacing
        elif self.overwrite:
            plan.todo.append(job)
        elif not same_settings:
            refused.append(job)
        else:
            why = "the photo or its mask has changed since its result was written. Redo it with --overwrite."
            if not whole:
                why = (
                    f"its result {shown(self.out / job.output)} was changed or damaged after it was written. "
                    "Move it away, and this photo is done again."
                )
            plan.known.append(Outcome(job.photo, job.output, "failed", why))

    def _refusal(self, refused: list[Job], ledger: Ledger, settings: dict[str, Any]) -> str:
        then = ledger.settings.get(ledger.entries[refused[0].key].settings, {})
        changes = [
            f"{name} was {then.get(name)}, now {settings.get(name)}"
            for name in dict.fromkeys((*then, *settings))
            if then.get(name) != settings.get(name)
        ]
        return (
            f"{shown(self.out)} holds {len(refused)} results made with other settings "
            f"({'; '.join(map(shown, changes)) or 'unknown ones'}). "
            "Choose another folder, or redo them with --overwrite."
        )

    def inputs(self, job: Job) -> Inputs:
        """What a result is made of, as the journal keeps it.

        Raises:
            InputError: a file that is not there.
        """
        found: Inputs = []
        files = [(job.photo, self.photos / job.photo), *((m, self.masks.where(self.photos, m)) for m in job.masks)]
        for name, file in files:
            try:
                told = file.stat()
            except (OSError, ValueError) as error:
                raise InputError(f"{shown(file)}: {reason_of(error)}") from error
            found.append([name, told.st_size, told.st_mtime_ns])
        if job.boxes:
            digest = hashlib.blake2b(repr(job.boxes).encode(), digest_size=8).hexdigest()
            found.append(["boxes", len(job.boxes), digest])
        return found


@dataclass
class FolderPlan:
    """What a run would do.

    Args:
        todo: jobs to do, in the order of the photos. A limit may end the run before the last one.
        known: outcomes that are certain already: proven results, photos without a mask, unsupported formats, what is
            no photo.
        with_mask: photos that have one, whatever the shard.
        damaged: lines of the journals that could not be read.
        resumed: interrupted runs whose results count.
    """

    todo: list[Job] = field(default_factory=list)
    known: list[Outcome] = field(default_factory=list)
    unused: tuple[str, ...] = ()
    with_mask: int = 0
    without_mask: int = 0
    damaged: int = 0
    resumed: set[str] = field(default_factory=set)

    def count(self, status: str) -> int:
        """How many of the known outcomes have this status."""
        return sum(outcome.status == status for outcome in self.known)


def _name_of(model: Any) -> str:
    """A model by its architecture and its numbers, one without torch by its name: equal only if results are."""
    if isinstance(name := getattr(model, "name", None), str):
        return name
    import torch

    digest = hashlib.blake2b(digest_size=8)
    network, memories = model.network, getattr(model, "memories", {})
    about = (type(network).__name__, sorted(dict(getattr(network, "options", {})).items(), key=str))
    digest.update(repr((about, [(name, memory.config) for name, memory in memories.items()])).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy() if values.numel() else b"")
    return f"{type(network).__name__} {digest.hexdigest()}"


def _name_of_album(album: Finder | None) -> str | None:
    """An album by how many photos it has, and their content."""
    if album is None:
        return None
    digests = sorted(photo.sha256 for photo in album.photos)
    return f"{len(digests)} photos {digest_of(' '.join(digests).encode())[:16]}"


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
