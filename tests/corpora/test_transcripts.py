"""Transcripts: decoding and the two ways of cleaning."""

import unicodedata

import pytest

from corpora.transcripts import clean, decode


@pytest.mark.parametrize(
    "raw, hangul, spoken",
    [
        ("안녕하세요.", "안녕하세요", "안녕하세요."),
        ("b/ 그래 n/ 알았어  l/", "그래 알았어", "그래 알았어"),
        ("(어제+그제) 왔어", "어제그제 왔어", "그제 왔어"),
        ("(아+(어+오)) 그래", "아어오 그래", "오 그래"),
        ("(아+) 그래", "아 그래", "그래"),
        ("(그래)", "그래", "그래"),
        ("(c/+c/)", "", ""),
        ("(N/ 어+아)", "어아", "아"),
        ("(어제 왔어", "어제 왔어", "어제 왔어"),
        ("어제) 그+제", "어제 그제", "어제 그 제"),
        ("3시 반에 3/4만", "시 반에 만", "3시 반에 3/4만"),
        ("ㅋㅋ ㅠㅠ 뭐야", "ㅋㅋ ㅠㅠ 뭐야", "ㅋㅋ ㅠㅠ 뭐야"),
        ("TV/라디오 봐", "라디오 봐", "TV/라디오 봐"),
        ("네b/", "네", "네"),
        ("b/o/ 그래", "그래", "그래"),
        ("아l/, 그래N/.", "아 그래", "아 , 그래 ."),
        ("(그래n/+그럼)", "그래그럼", "그럼"),
        ("b/o/ l/.", "", ""),
        ("시속 100km/h야", "시속 야", "시속 100km/h야"),
        ("and/or 3/4 A/S 받아", "받아", "and/or 3/4 A/S 받아"),
        ("n/a 네s/w", "네", "n/a 네s/w"),
        ("W/O/ 어", "어", "W/O/ 어"),
        ('그는 "왜?" 하고', "그는 왜 하고", "그는 왜? 하고"),
        ("* 뭐*라고", "뭐라고", "뭐 라고"),
        ("…?!", "", ""),
        ("", "", ""),
        ("왜\u200b\x00 그래", "왜 그래", "왜 그래"),
    ],
)
def test_clean(raw, hangul, spoken):
    assert clean(raw, "hangul") == hangul
    assert clean(raw, "spoken") == spoken


@pytest.mark.parametrize("style", ["hangul", "spoken"])
def test_decomposed_hangul_is_composed(style):
    """A Mac stores syllables as conjoining jamo, which no tokenizer here knows."""
    assert clean(unicodedata.normalize("NFD", "한국어"), style) == "한국어"


def test_utf8_comes_before_cp949():
    """The bytes of these two syllables are valid cp949 too, and mean something else there."""
    content = "뭐나".encode()
    assert content.decode("cp949") == "萸먮굹"
    assert decode(content) == "뭐나"
    assert decode("뷁이 어때".encode("cp949")) == "뷁이 어때"
    assert decode("각".encode("utf-8-sig")) == "각"
    with pytest.raises(UnicodeDecodeError):
        decode(b"\xff\xff")
