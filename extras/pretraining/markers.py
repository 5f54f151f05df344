"""The marks and words by which Korean writers show or name a feeling, as labels of a line.

A line that says what its writer feels needs no annotator: the word is the label (as emoji and
hashtags are for Felbo et al. 2017 and Mohammad 2012). The list is general Korean, put together by
hand for six basic emotions and boredom; stems are ambiguous, and negation is not looked at.
"""

import re
from collections.abc import Sequence

import numpy as np

MARKS = {
    "tears": r"[ㅠㅜ]+|T[._]*T",
    "laughter": r"ㅋ+",
    "giggle": r"ㅎ+",
    "smile": r"\^[\^_.ㅡ-]*\^|:\)",
    "heart": r"[♥♡❤]+",
    "displeasure": r"ㅡ[ㅡ_.,;]*ㅡ|-[_.]*-",
    "sweat": r"[;；]+",
    "exclamation": r"[!！]+",
    "question": r"[?？]+",
    "drawn out": r"[~∼～]+",
    "left open": r"\.{2,}|…+",
}
# Emotion and feeling -> stems: a word that begins with one of them has it. 끔찍 (horrid) is in two.
FEELINGS = {
    "fear: fright": (
        "무섭 무서 무시무시 두려 두렵 공포 겁나 겁이 겁을 겁먹 겁쟁 소름 오싹 섬뜩 섬찟 "
        "으스스 후덜덜 식겁 끔찍"
    ),
    "fear: worry": "불안 걱정 긴장 초조 염려 근심 공황 위협 위험 조마조마 떨리 떨려 스트레스",
    "disgust: disgust": (
        "역겹 역겨 더럽 더러 징그 혐오 극혐 토나 토할 토하 구토 구역 메스꺼 메스껍 끔찍 불쾌 "
        "지저분 불결 추하 추잡 찝찝 찝찌 진저리 비위 거부감"
    ),
    "sadness: grief": (
        "슬프 슬퍼 슬픈 슬픔 슬펐 서글 눈물 울었 울고 울다 울음 울컥 우울 울적 외로 외롭 "
        "쓸쓸 서럽 서러 절망 비극 비참 참담 공허 허전 먹먹 애잔 애절 눈시울"
    ),
    "sadness: pity": "불쌍 안타깝 안타까 가엾 가슴아 아프 아픈 아파 아픔 고통 상처 안쓰 애처 처절",
    "sadness: regret": (
        "후회 미안 죄송 유감 실망 아쉽 아쉬 섭섭 서운 그립 그리워 그리운 그리움 부끄 창피"
    ),
    "anger: anger": (
        "화나 화난 화났 화가 화를 열받 짜증 분노 빡치 빡쳐 답답 싫 증오 미워 미운 원망 억울 "
        "분하 분통 괘씸 얄밉 불만 성질"
    ),
    "anger: insult": (
        "쓰레기 미친 욕나 바보 멍청 멍충 어리석 한심 병신 등신 지랄 씨발 개새 개자식 꺼져 "
        "꺼지 망할 어이없 어이가 닥쳐 닥치 빌어먹 빌어 젠장 제기랄 재수없 찌질 무식 뻔뻔 "
        "비열"
    ),
    "surprise: surprise": (
        "놀라 놀랍 놀란 놀랐 놀람 깜짝 깜놀 충격 경악 헐 헉 세상에 어머 우와 와우 맙소사 "
        "신기 뜻밖 의외 믿기 믿을수 기막 갑자기"
    ),
    "surprise: puzzlement": (
        "궁금 의문 의아 설마 혼란 모르겠 이해가 이해를 이해할 도대체 헷갈 어떻게 당황 황당 "
        "왜 글쎄 이상하 이상한 호기심"
    ),
    "happiness: joy": (
        "행복 기쁘 기뻐 기쁨 즐거 즐겁 즐기 신나 신난 웃 재밌 재미 유쾌 통쾌 짜릿 다행 흐뭇 "
        "뿌듯 흥미 만족 안도"
    ),
    "happiness: affection": (
        "사랑 애정 귀엽 귀여 예쁘 예쁜 예뻐 이쁘 이쁜 설레 따뜻 훈훈 소중 매력 좋아"
    ),
    "happiness: gratitude": "감사 고마 고맙 축하 응원 반갑 반가 환영",
    "happiness: admiration": (
        "최고 멋지 멋진 멋있 훌륭 대단 완벽 존경 감동 감탄 아름 짱 대박 굿 굉장 위대 천재 "
        "강추 추천 놀라운"
    ),
    "happiness: hope": "희망 소망 기대 바라 바랍 좋겠 꿈",
    "boredom: boredom": (
        "지루 졸리 졸려 졸음 하품 재미없 노잼 시시 허무 지겹 지겨 따분 식상 진부 뻔한 뻔하 "
        "유치 허접 심심"
    ),
}
EMOTIONS = tuple(dict.fromkeys(name.partition(":")[0] for name in FEELINGS))
MARKERS = [*MARKS, *EMOTIONS, *FEELINGS]
MARK_PATTERNS = [re.compile(pattern) for pattern in MARKS.values()]
STEM_COLUMNS: dict[str, list[int]] = {}  # of MARKERS: a stem's emotions and feelings
for feeling, stems in FEELINGS.items():
    for stem in stems.split():
        names = (feeling.partition(":")[0], feeling)
        STEM_COLUMNS.setdefault(stem, []).extend(map(MARKERS.index, names))
# The longest stem counts: 재미없 (dull) before 재미 (fun). The rest of the word goes with it.
WORD = re.compile(
    "(?<![가-힣])(" + "|".join(sorted(STEM_COLUMNS, key=len, reverse=True)) + ")[가-힣]*"
)


def take_out_markers(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the texts without their markers, and which of MARKERS each had: (N, 34), 0 or 1."""
    found = np.zeros((len(texts), len(MARKERS)), dtype=np.float32)
    bare = []
    for row, text in enumerate(texts):
        for column, mark in enumerate(MARK_PATTERNS):
            text, count = mark.subn(" ", text)
            found[row, column] = count > 0
        for stem in WORD.findall(text):
            found[row, STEM_COLUMNS[stem]] = 1
        bare.append(WORD.sub(" ", text))
    return bare, found
