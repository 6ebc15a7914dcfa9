"""The diagnosis benchmark: does the diagnosis find what is wrong with a run, and leave a healthy run alone?

Small models are really trained on a CPU, three tasks and two sizes of each, with something planted in the training: a
learning rate far too high, labels masked, a checkpoint without its optimizer, a kill. Nothing is written into telemetry
by hand; what a run looks like is what the trainer and the recorder made of the fault. The telemetry is kept in
`fixtures/diagnosis/`, one compressed file a run, so that scoring needs no training and no torch:

    python -m benchmarks.diagnosis.score --half report

from the root of the repository, with the extra `analysis`. `--runs` lists what was found in each run, `--markdown`
prints the tables of the documentation.

**The halves.** Each condition has eight runs: four of the six pairs of task and size, each with two seeds. Runs with an
odd seed (1, 3) are there to set thresholds by (`--half tune`). Runs with an even seed (22, 24) have the same recipes,
other data, another base model, another adapter and another order of batches; they are there to report
(`--half report`). A threshold is never moved because of a run of the second half: when one has to be, the second half
gets seeds that nobody has seen (`SEEDS` in `cells.py`), as was done twice so far: seeds 2 and 4 were seen while the
diagnostics were written, and what 12 and 14 showed moved three limits. Runs of two conditions share data and base where
their seeds are equal, and neither adapter nor order.

**To make the runs again** (extra `train`; about half an hour on two cores):

    python -m benchmarks.diagnosis.generate [--only NAME...] [--jobs N] [--again]

What is there is kept, unless `--again` is given. Two conditions, `healthy_uneven_steps` and `step_time_growing`, wait
more than they compute: `--only` these with `--jobs 8` takes five minutes. On one machine a run comes out with the same
losses bit for bit; times, memory and process ids change, and another processor sums in another order, which training
amplifies.

**To add a condition**, append it to `HEALTHY` or `FAULTY` in `conditions.py`; a plan of its own goes into `plans.py`,
and what a trainer does wrong into `faulty.py`.

What the benchmark cannot say: its models have 80,000 to 260,000 parameters, and most of its runs last seconds. How
often a healthy run of days is slowed down by its neighbours, or how the loss of a large model spikes, is not in it. The
runs of `split_overlap_partial` differ from healthy ones in nothing that is logged; they stay in it, so that the table
says what cannot be seen.
"""
