"""The study: one command per table, one JSON file per table, resumed arm by arm.

    python -m benchmarks.study TABLE --data msrc-v2 --folder /path/to/msrc-v2 --backbone efficientnet-lite0
    python -m benchmarks.study smoke
    python -m benchmarks.study figures

TABLE is one of budgets, hidden-layer, confusion, data-efficiency, label-noise, corruptions, unseen, temperatures,
spaces, faithfulness, graying, true-properties, fine-tuned. `smoke` runs every table on a few drawn scenes without any
weights (seconds; `--full`: five minutes). What is in benchmarks/study/results already is not measured again.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.study import smoke, tables
from benchmarks.study.pixels import describe, drawn_data, real_data
from benchmarks.study.questions.corruptions import corruptions
from benchmarks.study.questions.faithfulness import faithfulness
from benchmarks.study.questions.graying import graying
from benchmarks.study.questions.spaces import name_embeddings, space_variants
from benchmarks.study.questions.true_properties import true_properties
from benchmarks.study.records import RESULTS, Table

ON_FEATURES = {
    "budgets": tables.budgets,
    "hidden-layer": tables.hidden_layer,
    "data-efficiency": tables.data_efficiency,
    "confusion": tables.confusions,
    "label-noise": tables.label_noise,
    "unseen": tables.unseen,
    "temperatures": tables.temperatures,
    "faithfulness": faithfulness,
    "true-properties": true_properties,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "table", choices=(*ON_FEATURES, "corruptions", "spaces", "graying", "fine-tuned", "smoke", "figures")
    )
    parser.add_argument("--data", choices=("msrc-v2", "camvid", "scenes"), default="msrc-v2")
    parser.add_argument("--folder", type=Path, help="of the data set")
    parser.add_argument(
        "--backbone", choices=("efficientnet-lite0", "dinov2-small", "colors"), default="efficientnet-lite0"
    )
    parser.add_argument("--weights", type=Path, help="folder of dinov2-small")
    parser.add_argument("--cache", type=Path, default=Path("runs/study"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", help="only these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="of smoke: more images, steps and seeds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table == "smoke":
        smoke.run(
            options.results if options.results != RESULTS else Path("runs/study-smoke"), full=options.full
        )
        return
    if options.table == "figures":
        from benchmarks.study.figures import draw_all

        draw_all(options.results)
        return
    if options.table == "fine-tuned":
        from benchmarks.study.questions.fine_tuned import fine_tuned

        fine_tuned(
            Table("fine-tuned", options.results), options.data, options.folder, options.seeds, options.arms
        )
        return
    if options.table == "graying":
        graying(Table("graying", options.results), options.folder, options.seeds)
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.data == "scenes":
        data = drawn_data(options.backbone, options.cache)
    else:
        data = real_data(options.data, options.backbone, options.folder, options.cache, options.weights)
    print(describe(data), flush=True)
    names = name_embeddings(data.class_names)
    bench = tables.Bench(data, names, options.seeds, Table("rates", options.results), options.arms)
    table = Table(options.table, options.results)
    if options.table == "spaces":
        tables.spaces(bench, table, space_variants(data))
    elif options.table == "corruptions":
        corruptions(bench, table, options.folder, options.cache, options.weights)
    else:
        ON_FEATURES[options.table](bench, table)


if __name__ == "__main__":
    main()
