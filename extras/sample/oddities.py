"""What is odd about the real KEMDy19, planted in a session of the sample corpus.

Every function changes a session's list of segments (five dialogues of at least four segments) in a
place of its own and returns the ID of what it touched.
"""

from dataclasses import replace

import numpy as np

from extras.sample.speech import breathe
from extras.sample.writer import Row, Segment, row_of_votes


def wrong_id(segments: list[Segment]) -> str:
    """The F file names the man's segment where the woman's is rated."""
    index = next(i for i, segment in enumerate(segments) if segment.id.endswith("_F001"))
    segment = segments[index]
    wrong = replace(segment.rows["F"], id=segment.id.replace("_F001", "_M001"))
    segments[index] = replace(segment, rows={**segment.rows, "F": wrong})
    return segment.id


def phantom_row(segments: list[Segment]) -> str:
    """The session ends with a row for no segment, under another name in each file."""
    last = segments[-1]
    woman, man = new_id(segments, 4, "F"), new_id(segments, 4, "M")
    rows = {"F": replace(last.rows["F"], id=man), "M": replace(last.rows["M"], id=woman)}
    segments.append(Segment(man, rows, start=last.end, end=last.end + 1, sensors=last.sensors))
    return man


def missing_files(segments: list[Segment]) -> str:
    """An annotated segment has neither recording nor transcript."""
    index = of_dialogue(segments, 2)[-1]
    segments[index] = replace(segments[index], text=None, audio=None)
    return segments[index].id


def orphan_transcript(segments: list[Segment]) -> str:
    """A transcript belongs to no annotated segment."""
    orphan = Segment(new_id(segments, 3, "F"), rows={}, text="그럼 여기서 잠깐 쉬었다 할게요.")
    segments.append(orphan)
    return orphan.id


def empty_transcript(segments: list[Segment]) -> str:
    """A transcript has tags and no words: the speaker only breathes."""
    index = of_dialogue(segments, 1)[-1]
    audio = breathe(1.8, np.random.default_rng(0))
    segments[index] = replace(segments[index], text="b/ n/", audio=audio)
    return segments[index].id


def misspelt_vote(segments: list[Segment]) -> str:
    """A rater's cell reads `disqust`, in a row whose majority does not depend on it."""
    for index, segment in enumerate(segments):
        for letter, row in segment.rows.items():
            changed = with_last_vote(row, "disgust")
            if changed.emotion == row.emotion:
                misspelt = replace(changed, votes=with_last_vote(row, "disqust").votes, id=row.id)
                segments[index] = replace(segment, rows={**segment.rows, letter: misspelt})
                return segment.id
    raise ValueError("every majority of the session hangs on its last vote")


def converted_copy(segments: list[Segment]) -> str:
    """A `converted/` sub-folder holds a namesake of a recording: here, it runs backwards."""
    segments[0] = replace(segments[0], converted=segments[0].audio[::-1])
    return segments[0].id


def with_last_vote(row: Row, emotion: str) -> Row:
    """Return the row with its last rater voting for something else."""
    return row_of_votes((*row.votes[:-1], replace(row.votes[-1], emotion=emotion)))


def of_dialogue(segments: list[Segment], number: int) -> list[int]:
    """Return the indices of the segments of the session's first, second, ... dialogue (from 0)."""
    dialogues = [segment.id.rpartition("_")[0] for segment in segments]
    wanted = list(dict.fromkeys(dialogues))[number]
    return [index for index, dialogue in enumerate(dialogues) if dialogue == wanted]


def new_id(segments: list[Segment], number: int, letter: str) -> str:
    """Return an ID that no segment of this dialogue has."""
    dialogue = segments[of_dialogue(segments, number)[0]].id.rpartition("_")[0]
    taken = [s.id for s in segments if s.id.startswith(dialogue)]
    return f"{dialogue}_{letter}{len(taken) + 1:03d}"


# Oddity and the session that has it in KEMDy19 (or, where that is unknown, one without another).
ODDITIES = {
    wrong_id: 3,
    phantom_row: 4,
    missing_files: 6,
    orphan_transcript: 7,
    empty_transcript: 8,
    misspelt_vote: 10,
    converted_copy: 1,
}
