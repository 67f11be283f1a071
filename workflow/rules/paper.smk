# From tables of numbers to the paper, without torch. Each rule takes seconds: none is worth a place in a queue.
localrules:
    tables,
    figures,
    numbers,
    pdf,
    tarball,


rule tables:
    input:
        runs=multiext("{build}/", "runs.parquet", "curves.parquet", "layers.parquet"),
        stats="{build}/stats.json",
        claims="{build}/claims.json",
    output:
        directory("{build}/paper/tables"),
    log:
        "{build}/logs/tables.log",
    benchmark:
        "{build}/benchmarks/tables.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=SOURCE,
    message:
        "Writing the tables"
    shell:
        "bitq tables --build {wildcards.build:q} > {log:q} 2>&1"


rule figures:
    input:
        runs=multiext("{build}/", "runs.parquet", "curves.parquet", "layers.parquet"),
        stats="{build}/stats.json",
        claims="{build}/claims.json",
    output:
        report(
            directory("{build}/paper/figures"),
            patterns=["{figure}.pdf"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "{build}/logs/figures.log",
    benchmark:
        "{build}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=SOURCE,
    message:
        "Drawing the figures"
    shell:
        "bitq figures --build {wildcards.build:q} > {log:q} 2>&1"


rule numbers:
    input:
        runs=multiext("{build}/", "runs.parquet", "curves.parquet", "layers.parquet"),
        stats="{build}/stats.json",
        claims="{build}/claims.json",
    output:
        multiext("{build}/paper/numbers", ".tex", ".md"),
    log:
        "{build}/logs/numbers.log",
    benchmark:
        "{build}/benchmarks/numbers.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=digest("paper", "README.md") + SOURCE,
    message:
        "Writing the numbers that the text quotes"
    shell:
        "bitq numbers --build {wildcards.build:q} > {log:q} 2>&1"


rule pdf:
    input:
        runs=multiext("{build}/", "runs.parquet", "curves.parquet", "layers.parquet"),
        stats="{build}/stats.json",
        claims="{build}/claims.json",
        tables="{build}/paper/tables",
        figures="{build}/paper/figures",
        numbers="{build}/paper/numbers.tex",
    output:
        report(
            "{build}/paper/bitq.pdf",
            caption="../report/paper.rst",
            category="Paper",
        ),
        supplement="{build}/paper/supplement.pdf",
    log:
        "{build}/logs/pdf.log",
    benchmark:
        "{build}/benchmarks/pdf.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        source=digest("paper") + SOURCE,
    message:
        "Typesetting {output[0]} and {output.supplement}"
    shell:
        "bitq paper --build {wildcards.build:q} > {log:q} 2>&1"


rule tarball:
    input:
        pdf="{build}/paper/bitq.pdf",
    output:
        "{build}/paper/bitq-submission.tar.gz",
    log:
        "{build}/logs/submission.log",
    benchmark:
        "{build}/benchmarks/submission.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        source=digest("paper") + SOURCE,
    message:
        "Packing the paper as one TeX file with all that it needs"
    shell:
        "bitq submission --build {wildcards.build:q} > {log:q} 2>&1"
