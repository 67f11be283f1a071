# From finished runs to tables of numbers, their statistics and the verdicts on all claims, without torch.
localrules:
    verify,
    aggregate,
    statistics,


rule verify:
    output:
        verdict="{build}/verdict.json",
    log:
        "{build}/logs/verify.log",
    benchmark:
        "{build}/benchmarks/verify.tsv"
    wildcard_constraints:
        build="build",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        selection=selection_of,
        results=results_of,
        allow_missing=missing_allowed(),
        content=fingerprint,
        source=SOURCE,
    message:
        "Checking every run in {params.results}"
    shell:
        "bitq verify {params.selection:q} --results {params.results:q} {params.allow_missing}"
        " --out {output.verdict:q} > {log:q} 2>&1"


rule aggregate:
    input:
        verdict="{build}/verdict.json",
    output:
        runs="{build}/runs.parquet",
        curves="{build}/curves.parquet",
        layers="{build}/layers.parquet",
        predictions="{build}/predictions.parquet",
        tables=report(
            multiext("{build}/", "runs.csv", "curves.csv"),
            caption="../report/runs.rst",
            category="Runs",
        ),
    log:
        "{build}/logs/aggregate.log",
    benchmark:
        "{build}/benchmarks/aggregate.tsv"
    wildcard_constraints:
        build="build",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        selection=selection_of,
        results=results_of,
        content=fingerprint,
        source=SOURCE,
    message:
        "Collecting all runs of {params.results} in {output.runs}"
    shell:
        "bitq aggregate {params.selection:q} --results {params.results:q} --verdict {input.verdict:q}"
        " --out {wildcards.build:q} > {log:q} 2>&1"


rule statistics:
    input:
        runs="{build}/runs.parquet",
        layers="{build}/layers.parquet",
        predictions="{build}/predictions.parquet",
    output:
        stats="{build}/stats.json",
        claims="{build}/claims.json",
    log:
        "{build}/logs/statistics.log",
    benchmark:
        "{build}/benchmarks/statistics.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=SOURCE,
    message:
        "Comparing all arms and judging all claims"
    shell:
        "(bitq stats --runs {input.runs:q} --out {output.stats:q}"
        " && bitq claims --runs {input.runs:q} --out {output.claims:q}) > {log:q} 2>&1"
