import pytest

from dialogues.prompts import fill, load_prompts

ROLES = {"label": ("timestamp",), "question": ("expression", "num_frames")}


def write(folder, text):
    path = folder / "prompts.yaml"
    path.write_text(text)
    return path


def test_fill_replaces_in_one_pass():
    # Braces that a value brings along are text, not placeholders.
    assert fill("{expression} of {num_frames}: {other}", expression="{num_frames}", num_frames=3) == (
        "{num_frames} of 3: {other}"
    )


def test_load_prompts(tmp_path):
    path = write(tmp_path, 'label: "<{timestamp}>"\nquestion: \'{"json": "{expression}"}\'')
    read = load_prompts(path, ROLES, ("expression", "timestamp"))
    assert read == {"label": "<{timestamp}>", "question": '{"json": "{expression}"}'}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('label: "{timestamp}"', "exactly the roles"),
        ('label: "{timestamp}"\nquestion: "{expression}"\nextra: x', "exactly the roles"),
        ("- label", "exactly the roles"),
        ("", "exactly the roles"),
        ('label: "{timestamp}"\nquestion: 3', "Expected `question` to be a text"),
        ('label: "{timestamp}"\nquestion: "{expresion}"', r"got \['expresion'\]"),
        ('label: "{expression}"\nquestion: "{expression}"', r"Expected `label` in .* to hold \['timestamp'\]"),
        ('label: "{timestamp}"\nquestion: "what?"', r"got no \['expression'\]"),
    ],
    ids=["missing", "unknown", "list", "empty", "number", "misspelt", "not its own", "unused"],
)
def test_load_prompts_refuses(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_prompts(write(tmp_path, text), ROLES, ("expression", "timestamp"))
