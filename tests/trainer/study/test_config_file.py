from pathlib import Path

import pytest

from jackpot.conditions import SAID
from trainer.study.config import Reading
from trainer.study.config_file import ConfigError, load_study
from trainer.study.plan import plan

CONFIGS = Path(__file__).parents[3] / "configs"
GOOD = """\
study: tiny
network: resnet20
dataset: cifar10
learning_rates: [1e-3, 0.1]
pruning:
  rounds: 4
training:
  epochs: 10
  batch_size: 64
  schedule:
    name: step
    milestones: [5, 8]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def error(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(write(tmp_path, text), overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path):
    assert load_study(path).learning_rates


def test_the_papers_recipe_can_be_said():
    vgg16 = load_study(CONFIGS / "vgg16.yaml")
    training = vgg16.training
    assert (training.epochs, training.batch_size, training.warmup_epochs) == (160, 64, 75)
    assert training.schedule.milestones == [80, 120]
    assert (training.optimizer.momentum, training.optimizer.weight_decay) == (0.9, 5e-4)
    assert (training.rewind, vgg16.pruning.rounds, vgg16.trials) == (8, 14, 3)


def test_numbers_are_read_as_people_write_them(tmp_path: Path):
    study = load_study(write(tmp_path, GOOD))
    assert study.learning_rates == [0.001, 0.1]
    assert study.dataset.name == "cifar10"
    assert study.training.rewind == 1


def test_cosine_with_warmup_is_said_and_overridden(tmp_path: Path):
    study = load_study(
        write(tmp_path, GOOD),
        [
            "training.schedule={name: cosine}",
            "training.warmup_epochs=2",
            "training.optimizer.weight_decay=3.05e-5",
            "learning_rates.1=0.4",
            "dataset.train_images=100",
        ],
    )
    assert study.training.schedule.name == "cosine"
    assert study.training.warmup_epochs == 2
    assert study.training.optimizer.weight_decay == 3.05e-5
    assert study.learning_rates == [0.001, 0.4]
    assert (study.dataset.name, study.dataset.train_images) == ("cifar10", 100)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("  epochs: 10", "  epoch: 10", 8, ["training.epoch", "did you mean 'epochs'"]),
        ("  epochs: 10", "  epochs: ten", 8, ["training.epochs", "integer", "'ten'"]),
        ("  epochs: 10", "  epochs: 1e1", 8, ["training.epochs", "integer"]),
        ("  epochs: 10", "  epochs: 0", 8, ["training.epochs", "greater than or equal to 1"]),
        ("  epochs: 10", "  epochs: 8", 12, ["milestone 8", "never reached"]),
        ("network: resnet20", "network: resnet-20", 2, ["network", "did you mean 'resnet20'"]),
        ("dataset: cifar10", "dataset: cifar01", 3, ["dataset", "did you mean 'cifar10'"]),
        ("[1e-3, 0.1]", "[1e-3, 0]", 4, ["learning_rates[1]", "greater than 0"]),
        ("[1e-3, 0.1]", "[1e-3, -0.1]", 4, ["learning_rates[1]", "greater than 0"]),
        ("[1e-3, 0.1]", "[0.1, 0.1]", 4, ["named twice"]),
        ("[1e-3, 0.1]", "[]", 4, ["at least 1"]),
        ("[1e-3, 0.1]", "[.nan]", 4, ["finite"]),
        ("[1e-3, 0.1]", '["0.1"]', 4, ["learning_rates[0]", "valid number", "'0.1'"]),
        ("study: tiny", "study: ../evil", 1, ["study", "letters"]),
        ("study: tiny", "study: a/b", 1, ["study", "letters"]),
        ("study: tiny", "study: a%2fb", 1, ["study", "letters"]),
        ("study: tiny", "study: a..b", 1, ["study", "letters"]),
        (
            "study: tiny",
            "settings: [lt, rx]\nstudy: tiny",
            1,
            ["settings[1]", "unknown setting 'rx'", "known here"],
        ),
        ("study: tiny", "pruners: [impp]\nstudy: tiny", 1, ["pruners", "did you mean 'imp'"]),
        ("  rounds: 4", "  sparsities: [0.59, 0.6]", 6, ["0.6", "0.590 (round 4)", "0.672"]),
        ("  rounds: 4", "  rounds: 4\n  sparsities: [0.832]", 7, ["round 8", "rounds is 4"]),
        ("  rounds: 4", "  fraction: 0.2", 5, ["how deep to prune"]),
        ("  batch_size: 64", "", 7, ["training.batch_size", "required"]),
        ("  batch_size: 64", "  batch_size: 64\n  warmup_epochs: 11", 10, ["warm-up of 11"]),
        ("  batch_size: 64", "  batch_size: 64\n  rewind_epoch: 10", 10, ["rewind epoch 10"]),
        ("    name: step", "    name: stepp", 10, ["schedule", "'step'"]),
        ("[5, 8]", "[8, 5]", 12, ["milestones", "ascend"]),
        ("study: tiny", "study: tiny\nno: 1", 2, ["unknown key"]),
    ],
)
def test_a_mistake_is_named_with_file_line_and_mend(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
):
    message = error(tmp_path, GOOD.replace(old, new))
    assert f"study.yaml:{line}: " in message
    for word in words:
        assert word in message


def test_rewinding_must_leave_epochs_to_train(tmp_path: Path):
    text = GOOD.replace("epochs: 10", "epochs: 1").split("  schedule")[0] + "settings: [wr]\n"
    message = error(tmp_path, text)
    assert "study.yaml:8: training.epochs: wr starts after epoch 1" in message


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    message = error(tmp_path, GOOD.replace("epochs", "epoch").replace("[1e-3, 0.1]", "[0]"))
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "study: again\n", [":13:", "'study' is given twice"]),
        (GOOD.replace("  epochs: 10", "\tepochs: 10"), [":8:", "tab"]),
        ("study: [1, 2", ["not valid YAML"]),
        ("- a\n- b\n", ["expected a mapping", "a list"]),
        ("", ["expected a mapping", "nothing"]),
        ("study: !!python/object/apply:os.system ['echo hi']\n", ["study"]),
    ],
)
def test_malformed_yaml_is_named(tmp_path: Path, text: str, words: list[str]):
    message = error(tmp_path, text)
    for word in words:
        assert word in message


_BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_BOMB, "more than 10,000 values once aliases are written out"),
        ("zz: " + "[" * 3000 + "]" * 3000, "nested more than 20 levels deep"),
        ("zz: " + "{a: " * 1000 + "1" + "}" * 1000, "nested more than 20 levels deep"),
        ("zz: &z [*z]", "has an alias, *z, that refers to itself"),
        ("zz: &z {augmentation: *z}", "has an alias, *z, that refers to itself"),
        ("# " + "x" * 200_000, "characters; expected a study of at most 100,000"),
        ("zz: " + "9" * 5000, "cannot be read: Exceeds the limit"),
        ("".join(f"k{i}: 1\n" for i in range(300)), "and 280 more"),
    ],
)
def test_yaml_without_end_is_refused_at_once(tmp_path: Path, text: str, words: str):
    path = tmp_path / "study.yaml"
    path.write_text((CONFIGS / "digits.yaml").read_text() + text)
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert words in str(caught.value)
    if "\n" not in text:
        with pytest.raises(ConfigError):
            load_study(CONFIGS / "digits.yaml", [text.replace(": ", "=", 1)])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs=1000000000000000000000000000000", "less than or equal to 1000000"),
        ("training.batch_size=1000000000000", "less than or equal to 1000000"),
        ("pruning.rounds=100000", "less than or equal to 1000"),
        ("trials=1000000", "less than or equal to 1000"),
        ("dataset.train_images=100000000000000", "less than or equal to 1000000000"),
        ("pruning.layers=['" + "*a" * 200 + "']", "at most 200 characters"),
        ("dataset=tfds:x/..", "unknown dataset 'tfds:x/..'"),
        ("dataset=tfds:../../etc", "unknown dataset"),
        ("pruning.sparsities=[0.998, 0.99807]", "are both round 28, 0.998066"),
    ],
)
def test_what_no_machine_can_do_is_refused(override: str, words: str):
    with pytest.raises(ConfigError) as caught:
        load_study(CONFIGS / "digits.yaml", ["pruning.fraction=0.2", override])
    assert words in str(caught.value)


def test_sparsities_that_are_written_alike_are_refused():
    with pytest.raises(ConfigError, match=r"sparsities 0.9 and 0.9001 are both 0\.900 on screen"):
        load_study(CONFIGS / "digits.yaml", ["pruners=[omp]", "pruning.sparsities=[0.9, 0.9001]"])


def test_pruners_that_figures_could_not_tell_apart_are_refused(tmp_path: Path, monkeypatch):
    (tmp_path / "theirs.py").write_text("from examples.fisher import fisher\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="'theirs:fisher' is called 'fisher' on screen, as"):
        load_study(CONFIGS / "digits.yaml", ["pruners=['examples.fisher:fisher', 'theirs:fisher']"])


def test_an_optimizer_keeps_the_options_of_its_base_whether_or_not_it_is_named(tmp_path: Path):
    optimizer = "  optimizer: {momentum: 0.5, weight_decay: 0.001}\n"
    base = write(tmp_path, GOOD + optimizer)
    own = tmp_path / "own.yaml"
    own.write_text(f"base: {base.name}\ntraining: {{optimizer: {{name: sgd, nesterov: true}}}}\n")
    found = load_study(own).training.optimizer
    assert (found.momentum, found.weight_decay, found.nesterov) == (0.5, 0.001, True)


def test_a_plan_without_end_is_refused():
    rates = ", ".join(f"{i / 1000:g}" for i in range(1, 1001))
    with pytest.raises(ConfigError, match=r"plans up to [\d,]+ runs, more than 100,000"):
        load_study(CONFIGS / "digits.yaml", [f"learning_rates=[{rates}]", "trials=1000"])


def test_a_missing_file_names_its_neighbour(tmp_path: Path):
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"no such file; did you mean .*study\.yaml"):
        load_study(tmp_path / "stdy.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", ["expected key=value"]),
        ("training.epochs=many", ["--set training.epochs=many", "integer"]),
        ("training.epoch=2", ["--set training.epoch=2", "did you mean 'epochs'"]),
        ("learning_rates.7=1", ["is not an index of a list of 2"]),
        ("study.name=x", ["no keys of its own"]),
        ("training.epochs=[", ["not valid YAML"]),
        ("=3", ["expected key=value"]),
    ],
)
def test_a_bad_override_names_itself(tmp_path: Path, override: str, words: list[str]):
    message = error(tmp_path, GOOD, override)
    for word in words:
        assert word in message


def test_omp_alone_may_prune_to_any_sparsity(tmp_path: Path):
    text = GOOD.replace("  rounds: 4", "  sparsities: [0.5]") + "pruners: [omp]\n"
    assert load_study(write(tmp_path, text)).pruning.sparsities == [0.5]


def based(tmp_path: Path, own: str, base: str = GOOD) -> Path:
    (tmp_path / "shared").mkdir(exist_ok=True)
    (tmp_path / "shared" / "base.yaml").write_text(base)
    return write(tmp_path, f"base: shared/base.yaml\n{own}")


def test_a_base_says_what_several_studies_share(tmp_path: Path):
    own = "study: other\ntraining: {epochs: 20, optimizer: {momentum: 0.5}}\n"
    study = load_study(based(tmp_path, own), ["training.batch_size=32"])
    assert (study.study, study.network) == ("other", "resnet20")
    assert (study.training.epochs, study.training.batch_size) == (20, 32)
    assert study.training.schedule.milestones == [5, 8]
    assert (study.training.optimizer.momentum, study.training.optimizer.weight_decay) == (0.5, 5e-4)
    study = load_study(based(tmp_path, "dataset: {train_images: 100}\nlearning_rates: [1]\n"))
    assert (study.dataset.name, study.dataset.train_images) == ("cifar10", 100)
    assert study.learning_rates == [1]
    # A schedule of another kind does not inherit the milestones.
    study = load_study(based(tmp_path, "training: {schedule: {name: cosine}}\n"))
    assert study.training.schedule.name == "cosine"


def test_a_mistake_is_named_in_the_file_that_makes_it(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"base\.yaml:8: training\.epoch: unknown key"):
        load_study(based(tmp_path, "study: other\n", GOOD.replace("epochs", "epoch")))
    with pytest.raises(ConfigError, match=r"study\.yaml:2: training\.epochs: .*greater than"):
        load_study(based(tmp_path, "training: {epochs: 0}\n"))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("base: 3", "expected a file name"),
        ("base: absent.yaml", "no such file"),
        ("base: study.yaml", "leads back to itself"),
    ],
)
def test_a_base_that_cannot_be_is_named(tmp_path: Path, base: str, words: str):
    assert "study.yaml:1: base: " in (message := error(tmp_path, f"{base}\n{GOOD}"))
    assert words in message


def test_the_studies_of_the_figures_share_their_runs_with_table_3():
    def keys(name: str) -> set[str]:
        return {run.key for run in plan(load_study(CONFIGS / f"{name}.yaml")).runs}

    resnet20, vgg16 = keys("resnet20"), keys("vgg16")
    assert keys("figure6-resnet20") | keys("weight-rewinding") <= resnet20
    assert keys("figure6-vgg16") <= vgg16
    assert len(keys("table4") - resnet20) == 3 * 2 * (3 + 3), "trials, pruners, other rates"
    # All that tells the two recipes of figure 1 apart is how long they train.
    short, long = (load_study(CONFIGS / f"figure1-{n}.yaml") for n in ("short", "long"))
    assert (short.training.epochs, long.training.epochs) == (78, 160)
    assert short.training.optimizer == long.training.optimizer


def test_every_row_of_table_3_has_a_config():
    from jackpot.marks import PUBLISHED

    studies = [load_study(path) for path in CONFIGS.glob("*.yaml")]
    full = {(s.network, s.dataset.name) for s in studies if set(s.settings) >= {"lt", "rr", "sdt"}}
    assert set(PUBLISHED) <= full


def test_a_study_can_say_what_the_judge_takes_from_it():
    assert tuple(Reading.model_fields) == SAID
