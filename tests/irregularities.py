"""Every irregularity of the corpora that the specification names, and those that users make.

Each touches utterances of its own, so that all of them can be made in one corpus.
"""

from dataclasses import replace

import numpy as np
from hostile import (
    Change,
    add,
    edit,
    edit_row,
    link_out,
    repeat,
    samples_of,
    sine,
    wav_bytes,
    write_flac,
)

from extras.sample.writer import (
    KEMDY19,
    KEMDY20,
    Recording,
    Row,
    Segment,
    Style,
    Vote,
    row_of_votes,
    unanimous,
)

TIED = row_of_votes((Vote("sad", 2, 2), Vote("neutral", 3, 3)) * 5)
MISSPELT = Row("disqust", 2.0, 3.0, (Vote("disqust", 2, 3),) * 10)
NO_LABEL = Row("", "", "", ())
NOT_FINITE = np.where(np.arange(1600) == 5, np.nan, sine(16000, 0.1, 0.3)).astype("f4")
CLIPPED = np.clip(samples_of(1).astype(int) * 40, -32768, 32767).astype(np.int16)
WRONG_ID = "wrong Segment ID, taken from the other file of the session"
LEADS_OUT = "symbolic link out of the corpus (--follow-links yes allows it)"
PHANTOM = "phantom row: a segment without files, not rated in its speaker's own file"

CHANGES19 = [
    Change(
        "wrong ID in an F file",
        (("repaired", "Sess01_script01_F001", WRONG_ID),),
        edit_row("Sess01_script01_F001", "F", id="Sess01_script01_M001"),
    ),
    Change(
        "wrong ID in an M file",
        (("repaired", "Sess01_script02_M002", WRONG_ID),),
        edit_row("Sess01_script02_M002", "M", id="Sess01_script02_F002"),
    ),
    Change(
        "phantom row",
        (("dropped", "Sess01_impro01_M031", PHANTOM),),
        add(
            1,
            Segment(
                "none",
                {
                    "F": replace(unanimous("sad"), id="Sess01_impro01_M031"),
                    "M": replace(unanimous("sad"), id="Sess01_impro01_F031"),
                },
            ),
        ),
    ),
    Change(
        "annotated without files",
        (("dropped", "Sess02_script01_F001", "no recording and no transcript"),),
        edit("Sess02_script01_F001", audio=None, text=None),
        utterances=-1,
    ),
    Change(
        "no recording",
        (("dropped", "Sess02_script01_M001", "no recording"),),
        edit("Sess02_script01_M001", audio=None),
        utterances=-1,
    ),
    Change(
        "no transcript",
        (("dropped", "Sess02_script01_F002", "no transcript"),),
        edit("Sess02_script01_F002", text=None),
        utterances=-1,
    ),
    Change(
        "transcript without annotation",
        (
            (
                "orphans",
                "Sess02_impro01_F099",
                "transcript without an annotation row",
            ),
        ),
        add(2, Segment("Sess02_impro01_F099", {}, text="들리나요")),
    ),
    Change(
        "rated in the other file only",
        (("dropped", "Sess02_script01_M003", "not rated in its speaker's own file"),),
        edit("Sess02_script01_M003", rows={"F": unanimous("sad")}),
        utterances=-1,
    ),
    Change(
        "converted folder",
        (("ignored", "wav/Session02/Sess02_script02/converted", "folder below a dialogue"),),
        edit("Sess02_script02_F001", converted=samples_of(999)),
    ),
    Change(
        "transcript of tags only",
        (("dropped", "Sess03_script01_F001", "transcript empty after cleaning"),),
        edit("Sess03_script01_F001", text="b/ n/ ."),
        utterances=-1,
    ),
    Change("tied labels", (), edit("Sess03_script01_F002", rows={"F": TIED, "M": TIED})),
    Change("misspelt label", (), edit("Sess03_script01_F003", rows={"F": MISSPELT, "M": TIED})),
    Change(
        "no majority label",
        (("dropped", "Sess03_script01_M001", "no majority label"),),
        edit("Sess03_script01_M001", rows={"F": NO_LABEL, "M": NO_LABEL}),
        utterances=-1,
    ),
    Change("cp949 transcript", (), edit("Sess03_script01_M002", text="뭐라고요?".encode("cp949"))),
    Change(
        "transcript with BOM", (), edit("Sess03_script01_M003", text="\ufeff뭐라고요?\r\n".encode())
    ),
    Change(
        "transcript in no encoding",
        (("dropped", "Sess03_script01_M004", "transcript is neither UTF-8 nor cp949"),),
        edit("Sess03_script01_M004", text=b"\xff\xff\x00\xff"),
        utterances=-1,
    ),
    Change(
        "ID that leads out of the corpus",
        (("dropped", "../../outside", "Segment ID is none of this session"),),
        add(3, Segment("none", {key: replace(TIED, id="../../outside") for key in "FM"})),
    ),
    Change(
        "ID of another session",
        (("dropped", "Sess04_script01_F002", "Segment ID is none of this session"),),
        add(3, Segment("none", {key: replace(TIED, id="Sess04_script01_F002") for key in "FM"})),
    ),
    Change(
        "identical row twice",
        (("noted", "Sess04_script01_F001", "identical row again"),),
        repeat("Sess04_script01_F001"),
    ),
    Change(
        "empty file",
        (("dropped", "Sess04_script01_M001", "recording unreadable"),),
        edit("Sess04_script01_M001", audio=b""),
        utterances=-1,
    ),
    Change(
        "recording of no samples",
        (("dropped", "Sess04_script01_M002", "recording empty"),),
        edit("Sess04_script01_M002", audio=wav_bytes(samples_of(0, 0))),
        utterances=-1,
    ),
    Change(
        "truncated recording",
        (("dropped", "Sess04_script01_M003", "recording truncated"),),
        edit("Sess04_script01_M003", audio=wav_bytes(samples_of(0), keep=1000)),
        utterances=-1,
    ),
    Change(
        "not a recording",
        (("dropped", "Sess04_script01_M004", "recording unreadable"),),
        edit("Sess04_script01_M004", audio=b"this is no recording at all" * 99),
        utterances=-1,
    ),
    Change(
        "endless recording",
        (("dropped", "Sess04_script01_M005", "recording longer than 10 minutes"),),
        edit("Sess04_script01_M005", audio=Recording(samples_of(0), 1)),
        utterances=-1,
    ),
    Change(
        "stereo 44.1 kHz float",
        (),
        edit(
            "Sess05_script01_F001",
            audio=Recording(np.stack([sine(44100, 0.5, 0.4)] * 2, 1), 44100, "FLOAT"),
        ),
    ),
    Change(
        "8 bit", (), edit("Sess05_script01_F002", audio=Recording(samples_of(2), 8000, "PCM_U8"))
    ),
    Change(
        "24 bit", (), edit("Sess05_script01_F003", audio=Recording(samples_of(3), 16000, "PCM_24"))
    ),
    Change(
        "32 bit", (), edit("Sess05_script01_F004", audio=Recording(samples_of(4), 48000, "PCM_32"))
    ),
    Change("FLAC", (), spoil=write_flac("Sess05_script01_F005")),
    Change(
        "not a number in a recording",
        (("noted", "Sess05_script01_M001", "samples not finite, set to zero"),),
        edit("Sess05_script01_M001", audio=Recording(NOT_FINITE, 16000, "FLOAT")),
    ),
    Change(
        "clipped recording",
        (("noted", "Sess05_script01_M002", "clipped"),),
        edit("Sess05_script01_M002", audio=CLIPPED),
    ),
    Change(
        "near-silent recording",
        (("noted", "Sess05_script01_M003", "near-silent"),),
        edit("Sess05_script01_M003", audio=(samples_of(5) // 1000).astype(np.int16)),
    ),
    Change(
        "symbolic link out of the corpus",
        (
            ("ignored", "Sess05_script01_M004.wav", LEADS_OUT),
            ("dropped", "Sess05_script01_M004", "no recording"),
        ),
        spoil=link_out("Sess05_script01_M004"),
        utterances=-1,
    ),
    Change(
        "other CSV file beside the annotation",
        (("ignored", "annotation/notes.csv", "not an annotation file"),),
        spoil=lambda root: (root / "annotation" / "notes.csv").write_text("a,b\n"),
    ),
]

CHANGES20 = [
    Change(
        "another session's prefix, files too",
        (("noted", "Sess01_script01_User999F_001", "ID carries another session's prefix"),),
        add(
            2,
            Segment(
                "Sess01_script01_User999F_001",
                {"eval": unanimous("sad")},
                text="뭐라고",
                audio=samples_of(1),
            ),
        ),
        utterances=1,
    ),
    Change(
        "another session's prefix in the annotation only",
        (
            (
                "repaired",
                "Sess03_script01_User005F_001",
                "ID carried another session's prefix, the files have their own",
            ),
        ),
        edit_row("Sess03_script01_User005F_001", "eval", id="Sess01_script01_User005F_001"),
    ),
    Change("misspelt label", (), edit("Sess03_script01_User006M_002", rows={"eval": MISSPELT})),
    Change("UTF-8 transcript", (), edit("Sess03_script01_User005F_003", text="뭐라고요?".encode())),
    Change(
        "annotated without files",
        (("dropped", "Sess04_script01_User007F_003", "no recording and no transcript"),),
        edit("Sess04_script01_User007F_003", audio=None, text=None),
        utterances=-1,
    ),
    Change(
        "ID that leads out of the corpus",
        (("dropped", "../../outside", "Segment ID is none of this session"),),
        add(3, Segment("none", {"eval": replace(TIED, id="../../outside")})),
    ),
    Change(
        "identical row twice",
        (("noted", "Sess05_script01_User009F_001", "identical row again"),),
        repeat("Sess05_script01_User009F_001"),
    ),
]

STYLES19 = {
    "as released": KEMDY19,
    "one blank between names": replace(KEMDY19, blank=" "),
    "BOM, CRLF, upper case": Style(
        start="Start", end="END", csv_encoding="utf-8-sig", newline="\r\n"
    ),
    "no sensors": replace(KEMDY19, sensors=()),
    "fewer sensors": replace(KEMDY19, sensors=("ECG",)),
    "cp949 transcripts": replace(KEMDY19, text_encoding="cp949"),
}
STYLES20 = {
    "as released": KEMDY20,
    "no blank between names": replace(KEMDY20, blank=""),
    "BOM, CRLF": replace(KEMDY20, csv_encoding="utf-8-sig", newline="\r\n"),
    "sensors at the end": replace(KEMDY20, sensors=("E4-EDA", "E4-TEMP")),
    "UTF-8 transcripts": replace(KEMDY20, text_encoding="utf-8"),
}
