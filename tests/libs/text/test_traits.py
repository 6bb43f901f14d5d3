"""What a text is by itself."""

from __future__ import annotations

import numpy as np

from qraft_text.traits import N_HASHES, traits_of


def test_links_mentions_and_entities_are_not_words():
    traits = traits_of(["@bob  Buy &amp; hold $BTC #crypto https://t.co/x  www.site.io/a", "no letters 12"])

    assert traits.clean == ("Buy & hold $BTC #crypto", "no letters 12")
    assert traits.n_tags.tolist() == [2, 0]
    assert traits.has_link.tolist() == [True, False]
    assert traits.n_words.tolist() == [4, 3]


def test_normal_form_forgets_case_and_signs_and_the_template_numbers_and_tags():
    a, b, c = "Pump $BTC by 20%!", "pump $btc by 20 %", "Pump $ETH by 31.5%!"
    traits = traits_of([a, b, c])

    assert traits.normal[0] == traits.normal[1] != traits.normal[2]
    assert traits.template[0] == traits.template[1] == traits.template[2]


def test_signatures_agree_as_often_as_shingles_are_shared():
    words = [f"word{i}" for i in range(60)]
    traits = traits_of([" ".join(words[:50]), " ".join(words[:45] + words[55:]), " ".join(words[50:])])
    own, other = traits.shingles[:2]
    jaccard = len(own & other) / len(own | other)

    agree = (traits.signature[0] == traits.signature[1]).mean()

    assert traits.signature.shape == (3, N_HASHES)
    assert abs(agree - jaccard) < 0.2
    assert (traits.signature[0] == traits.signature[2]).mean() < 0.1


def test_latin_letters_with_accents_are_latin_and_an_empty_text_has_no_shingles():
    traits = traits_of(["Ünïcödé façade", "абв где", ""])

    np.testing.assert_array_equal(traits.latin_frac, [1.0, 0.0, 1.0])
    assert traits.shingles[2] == frozenset()
    assert len(set(traits.signature[2].tolist())) == 1


def test_traits_of_a_text_do_not_depend_on_the_texts_beside_it():
    alone, among = traits_of(["Bitcoin is up a lot"]), traits_of(["x", "", "Bitcoin is up a lot", "y z"])

    np.testing.assert_array_equal(alone.signature[0], among.signature[2])
    assert alone.shingles[0] == among.shingles[2]
