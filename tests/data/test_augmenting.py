import re

import pandas as pd
import pytest

from moderation.data.disguises import _FRIENDLY, DISGUISES, add_disguised

FRAME = pd.DataFrame(
    {"comment_text": [f"remarkable comment number {i} about gardens" for i in range(400)], "toxic": [0, 0, 0, 1] * 100}
)


def test_copies_keep_their_labels_and_differ_in_their_texts():
    more = add_disguised(FRAME, 0.25, seed=1)
    pd.testing.assert_frame_equal(more[:400], FRAME)
    copies = more[400:]
    assert len(copies) == 100
    assert not set(copies["comment_text"]) & set(FRAME["comment_text"])
    assert copies["toxic"].mean() == pytest.approx(0.25, abs=0.12), "clean comments are copied as often"


def test_every_edit_is_used_and_the_seed_fixes_all():
    names = len(DISGUISES)
    copies = add_disguised(FRAME, 1.0, seed=2)[400:]
    assert names > 5
    assert not copies["comment_text"].str.contains("|".join(map(re.escape, _FRIENDLY)), regex=True).any()
    pd.testing.assert_frame_equal(copies, add_disguised(FRAME, 1.0, seed=2)[400:])
    assert not copies.equals(add_disguised(FRAME, 1.0, seed=3)[400:])
    assert copies["comment_text"].str.contains("[\u0400-\u04ff]", regex=True).any(), "homoglyphs among them"
    assert copies["comment_text"].str.contains("r e m a r k a b l e").any(), "spaced letters among them"


def test_a_share_of_0_changes_nothing():
    assert add_disguised(FRAME, 0.0, seed=1) is FRAME


def test_copies_get_only_the_named_edits():
    copies = add_disguised(FRAME, 1.0, seed=2, edits=("spaced letters",))[400:]
    assert copies["comment_text"].str.contains("r e m a r k a b l e").all()
