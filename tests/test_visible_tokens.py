"""How tokens are shown: every kind of space is seen, and long tokens are shortened."""

from hf_rnn_s2s.visible_tokens import LONGEST_LABEL, token_label, visible


def test_every_space_is_seen() -> None:
    assert visible("▁a b\u00a0c\u3000d\te\nf\r") == "␣a␣b␣c␣d⇥e↵f↵"
    assert visible("日星期") == "日星期"


def test_a_long_token_is_shortened_in_the_middle() -> None:
    assert token_label("x" * LONGEST_LABEL) == "x" * LONGEST_LABEL
    assert token_label(" abcdefghijklmnopqrstuvwxyz") == "␣abcdefghi…rstuvwxyz"
    assert len(token_label("y" * 300)) == LONGEST_LABEL
