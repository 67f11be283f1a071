localrules:
    smoke,
    smoke_parts,
    smoke_runs,
    verify_smoke,
    aggregate_smoke,


rule smoke:
    input:
        "build/smoke/paper/bitq.pdf",


rule smoke_parts:
    input:
        "build/smoke/paper/tables",
        "build/smoke/paper/figures",
        "build/smoke/paper/numbers.tex",


rule smoke_runs:
    input:
        "build/smoke/verdict.json",


rule train:
    input:
        teachers_of,
    output:
        "{build}/done/{scale}/{batch}.json",
    log:
        "{build}/logs/train/{scale}/{batch}.log",
    benchmark:
        "{build}/benchmarks/train/{scale}/{batch}.tsv"
    priority: urgency_of
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory_of,
        runtime=minutes_of,
        attempt=attempt_of,
    params:
        runs=runs_of,
        models=models_of,
        results=results_of,
        state=state_of,
    message:
        "Training {wildcards.batch}"
    shell:
        "exec until_done --attempt {resources.attempt} --record {output:q}.failed on_free_gpu"
        " bitq train {params.runs:q} --scale {wildcards.scale:q} --results {params.results:q}"
        " --state {params.state:q} --threads {threads} {params.models} --done {output:q} > {log:q} 2>&1"


# Without a digest of the results, which change while the graph runs, and by nothing but its jobs.
use rule verify as verify_smoke with:
    input:
        to_do,
    wildcard_constraints:
        build="build/smoke",
    params:
        content=all_markers,


use rule aggregate as aggregate_smoke with:
    wildcard_constraints:
        build="build/smoke",
    params:
        content="",


# What `snakemake grid` asks for, and each phase of it.
if asked_for("grid"):

    rule grid:
        input:
            markers("build"),

    for study, phase in phases("build"):

        rule:
            name:
                f"grid_{study}_{phase}"
            input:
                markers("build", study=study, phase=phase),
