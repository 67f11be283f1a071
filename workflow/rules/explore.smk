# All results as one page for a browser, from the tables behind the paper.
localrules:
    explore,


rule explore:
    input:
        runs=multiext("{build}/", "runs.parquet", "curves.parquet", "layers.parquet"),
        stats="{build}/stats.json",
        claims="{build}/claims.json",
    output:
        report(
            "{build}/explore.html",
            caption="../report/explore.rst",
            category="Results",
            labels={"page": "all results"},
        ),
    log:
        "{build}/logs/explore.log",
    benchmark:
        "{build}/benchmarks/explore.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=SOURCE,
    message:
        "Writing {output}"
    shell:
        "bitq explore --build {wildcards.build:q} --out {output:q} > {log:q} 2>&1"
