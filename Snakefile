# Three targets of one graph:
#     snakemake           the paper, from the results that are here
#     snakemake smoke     all runs at scale smoke, trained now into build/smoke/results, and the paper that they make
#     snakemake grid      more results: --config scale=mini study=bitnet phase=5 seed=42,123 says which
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


localrules:
    paper,
    parts,
    submission,


rule paper:
    input:
        "build/paper/bitq.pdf",
        "build/paper/supplement.pdf",


# All that the paper is made of; needs no TeX.
rule parts:
    input:
        "build/paper/tables",
        "build/paper/figures",
        "build/paper/numbers.tex",


rule submission:
    input:
        "build/paper/bitq-submission.tar.gz",


include: "workflow/rules/common.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/explore.smk"


# The paper is made without the rules that train, and so without asking which runs are missing.
if asked_for("smoke", "grid", "train", "build/smoke", "build/done"):

    include: "workflow/rules/batches.smk"
    include: "workflow/rules/train.smk"
