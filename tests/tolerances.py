"""Every tolerance of the tests, in one table, each with its reason. A number that stands nowhere else is a number to mend."""

from __future__ import annotations

import torch

# float64, one run of 100 steps against torch: largest relative difference of a parameter or a state.
# Reason: torch writes a*x + (1-a)*g as lerp and folds the bias corrections into the step size, so each step rounds
# differently by a few ulp (2.2e-16); 100 steps, with gradients taken from the parameters, add them up.
TORCH_FLOAT64 = 1e-11

# NAdam and ASGD: torch keeps `mu_product`, or `eta` and `mu`, in float32 unless the default dtype is float64, as it is in our runs;
# the looser bound is for the default dtype float32, where that number is wrong by 6e-8, and NAdam's step has 1/(1 - mu_product).
TORCH_NADAM_FLOAT32_PRODUCT = 1e-5

# The same rule on floats, numpy and torch, float64, one step: the functions sqrt, exp, log and pow may differ in the last
# bits between the C library, numpy's and torch's vector code; the rest is correctly rounded and equal.
FORMS_FLOAT64 = 4e-15

# float32 forms, one step: computed in float32 (eps 1.2e-7), a few operations.
FORMS_FLOAT32 = 2e-6

# bfloat16 and float16 are computed in float32 and rounded once: two float32 results a bit apart may fall on two
# neighbouring values, so one unit in the last place: 2^-8 and 2^-11 relative, doubled.
FORMS_BFLOAT16 = 2 * 2.0**-8
FORMS_FLOAT16 = 2 * 2.0**-11

# `train`: rule against class over 300 float32 steps on airfoil, relative difference of the loss curve.
# Reason: 300 steps that each round differently by an ulp (1.2e-7) of weights near 0.5.
TRAIN_RULE_AGAINST_CLASS = 2e-5

# A 2-D reference point is printed with six decimals: it must agree to half of the last.
PRINTED_SIX_DECIMALS = 0.5e-6

# A sample mean over n seeds lies within three standard errors of the table's with probability 99.7 %; the table's own
# error (2,000 seeds) is added in quadrature.
STANDARD_ERRORS = 3.0

# Gradient of a surface against central differences with h = 1e-6: truncation h^2 f''' and rounding 1e-16 f / h.
FINITE_DIFFERENCES = 1e-4

# A class with its kernel against torch's class, float64 under float64 default dtype, 1,000 steps: each step rounds
# differently by a few ulp (2.2e-16); the loss is convex, so differences do not grow with the steps.
CLASS_FLOAT64 = 1e-12

# The same kernel in float32 against the float64 result, one step from the same state: ulp of max(|p before|, |p after|).
CLASS_FLOAT32_ULP = 4

# The same where a parameter may be smaller than its own step: torch's float32 is up to 70 ulp off there too, for the sums
# that cancel are float32 in both. Root mean square of the distances in ulp, ours over torch's.
SMALL_PARAMETERS_RMS = 1.5

# bfloat16 and float16: computed in float32, rounded once. Against the eager form in float32, rounded: one unit in the last
# place where two float32 results a few ulp apart lie on two sides of a rounding boundary.
CLASS_LOW_ULP = 1

# Whole runs in float32 against another form: rounding (1.2e-7) is fed back through gradients and, in Adam's first steps,
# through divisions by small second moments; a handful of steps, and some tens, relative to a tensor's largest element.
CLASS_FLOAT32_FEW_STEPS = 1e-5
CLASS_FLOAT32_RUN = 1e-4

# Three steps in bfloat16: each store rounds by 2^-9 relative, and a rounding that falls the other way is fed back.
CLASS_BFLOAT16_RUN = 0.05

# torch's own table gives some settings (a tensor learning rate) in float32: 1 part in 2^24 of the step.
TORCH_FLOAT32_SETTINGS = 1e-6

# Triton's interpreter cuts a float32 off where a GPU rounds it to bfloat16 (the compiled code is looked at for that): an
# error twice as large at each store.
INTERPRETER_BFLOAT16_RUN = 2 * CLASS_BFLOAT16_RUN

# Bytes that one multiprocessor of a GPU must have in flight to be bound by memory alone: bandwidth times latency, per multiprocessor. An
# H100 moves 3.35e12 bytes per second by 132 of them, an A100 2.0e12 by 108: 25 kB and 19 kB within the microsecond that a busy
# memory takes to answer.
BYTES_IN_FLIGHT = 25_000

# The same where each element of three columns in bfloat16 is rounded by chance: the random words take 187 registers, so that fewer programs
# find room. It is an A100's 19 kB; whether arithmetic or memory bounds an H100 there is to be measured on one.
BYTES_BESIDE_THREE_DRAWS = 19_000

# A rule of the whole vocabulary in float64, three steps: exp, log and pow differ in the last bits between numpy, torch's
# vector code and exp(y log x), and roots of differences make more of it.
FORMS_VOCABULARY = 1e-11

# exp and tanh of a model's kernel, float32, ulp: a Taylor series of degree 7 after range reduction, a handful of roundings.
EXP_ULP = 2
TANH_ULP = 4

# A model's gradients in its kernel against torch's, float32, relative to the largest: sums over a batch of 7 in another order.
LANE_GRADIENT = 5e-6

# The same in float64 of models drawn at random, in which norms of norms enlarge what cancels; a wrong element is off by far more.
LANE_GRADIENT_64 = 1e-9

# A lane's loss after a whole run in float32 against a solo run through torch: each step rounds differently, by sums in
# another order and the fold of scalars, and 15 steps feed it back.
LANE_AGAINST_SOLO = 2e-4

JAVASCRIPT = 1e-12
"""The JavaScript form against the eager one, float64, over twelve steps: the same operations in the same order, but a browser's
exp, log and pow may differ from C's in the last place, and a norm is summed in another order than numpy's."""

# One step in a browser from a state that Python visited, float64, gradient, parameter and states: the functions are printed
# from the same graph and the surfaces give the same bits, so only a rule's own pow and exp differ, by an ulp.
BROWSER_STEP = 1e-12

# A network's gradient by printed loops, and whole trainings in a browser by them, against torch's autograd in float64: sums over a
# batch in another order and tanh from another library, a few ulp (2.2e-16) a step, on a convex loss or for one step.
PRINTED_NETWORK = 1e-10

# Whole paths in a browser, as a share of the window, where Python's own path moves by less than STABLE_PATH when its start
# moves by one ulp: where it moves more, steps divide by gradients that are rounding alone, and no two machines agree.
BROWSER_PATH = 1e-9
STABLE_PATH = 1e-10

# A formula of text in numpy, by sympy and in the page, relative to 1 or to itself: each orders sums and products
# differently, and some of the gradients' terms cancel.
FORMULA = 1e-11

# The page prints six digits, five where there is an exponent: half of the last.
PRINTED_FIVE_DIGITS = 5e-5

# Twelve steps over gradients of every size against torch, relative to the value or to the one before, which may have cancelled:
# a few roundings a step, fed back. Low precisions are rounded at each store, and a rounding that falls the other way stays.
MAGNITUDES = {torch.float32: 1e-5, torch.float64: 1e-11, torch.bfloat16: 4 * 2.0**-8, torch.float16: 4 * 2.0**-11}

# By how many ulp each state is moved after every one of those steps, to find the values that hang on the last bit: what a state's
# few operations, each rounded the other way, come to; in a low precision, its one rounding at the store.
SHAKEN = {torch.float32: 4, torch.float64: 4, torch.bfloat16: 1, torch.float16: 1}

# CPU seconds per second of a process that steps on one thread: 1 is its own; a second thread that only waits in a spin loop
# makes it 2. The clock's resolution and whatever else the interpreter does in two seconds lie far below a fifth.
CPU_SECONDS_PER_SECOND = 1.2

# Resident memory of a loading in which the checkpoint is dropped, over torch's, which takes the checkpoint's tensors as its
# own: a second copy of the states would be 1.6 times it; a quarter leaves room for what allocators keep and pages hold.
CLONE_SHARE = 1.25

# Resident memory over torch's of loops in which nothing accumulates: one gradient or one training kept too long is 25 % or
# more of what is measured, allocators and pages differ by a few per cent from run to run.
RESIDENT_SHARE = 1.2

# Drawn sequences and the matrix of events, some ten steps, gradients given and not fed back: against torch's default form, relative
# to the largest element that the tensor has had. torch's own foreach and fused forms stay within these.
DRAWN_FLOAT64 = 1e-11
DRAWN_FLOAT32 = 1e-5

# Drawn rules: how many times the spread that single ulps in each operation make, over a few tries, another form may be off. Forms
# order and fold their operations otherwise, and functions of other libraries differ by an ulp or two.
DRAWN_RULE = 60

# The same in bfloat16, computed in float32 and rounded where it is stored: two ulp (2^-8 of a number), for a float32 rounding may lead
# to the neighbour, and so it may the step before; and four times what such neighbours make of each other in a few tries.
STORED = 2 * 2.0**-8
STORED_AGAIN = 4

# Published rules against their reference, float64, gradients given, relative to the tensor's largest element: each step rounds
# differently by a few ulp (2.2e-16), and forty add up.
PUBLISHED_FLOAT64 = 1e-12

# The same where pytorch_optimizer adds 1e-15 under the root of the second moment and the authors do not: of a moment of 1e-6 beside an
# eps of 1e-3 that is 2.5e-10 of an element's step.
PUBLISHED_BESIDE_TINY = 1e-9

# pytorch_optimizer's QHAdam counts the weight of its moments in float32, and takes the reciprocal there: 6e-8 of each.
PUBLISHED_FLOAT32_COUNTERS = 1e-6

# torch's default form rounds after each operation, ours once a step: some four roundings a step (2^-9 and 2^-12), each
# kept in the state for about ten steps.
DRAWN_BFLOAT16 = 40 * 2.0**-9
DRAWN_FLOAT16 = 40 * 2.0**-12

# microrule.py against the package, float64, relative to 1 or to the number: thirty steps on a surface or 300 in a training, each
# rounded differently by a few ulp (2.2e-16).
MICRORULE = 1e-12

# A few operations in float64 in another order, as a formula worked out by hand beside the one that is tested: some ulp of 2.2e-16.
ROUNDED64 = 1e-13

# float64 sums of hundreds of numbers in another order, or functions of two libraries, which differ in the last bits.
SUMMED64 = 1e-12

# A whole run in float64: some hundred steps, each rounded differently by a few ulp.
RUN64 = 1e-10

# A few operations in float32 in another order, as one step beside the same by hand: some ulp of 1.2e-7.
ROUNDED32 = 1e-6

# float32 sums over a data set in other pieces, metrics of a model, or some steps, each rounded differently by an ulp of 1.2e-7.
SUMMED32 = 1e-5

# A function of a rule on floats beside the C library's: two ulp of 2.2e-16.
MATHS_FLOAT64 = 4e-16

# Losses and metrics of a lane on a held-out part beside a plain loop, float32: eight steps of a small model, and the part's sum.
HELD_OUT = 5e-5

# A rule beside torch's class in a plain loop over one model, float32, weights and buffers: eight steps, each rounded by an ulp.
RULE_AGAINST_LOOP = 2e-6

# The network's page computes in float64 what `train` computes in float32, over a whole training.
PAGE_AGAINST_TRAIN = 10 * TRAIN_RULE_AGAINST_CLASS

# torch's schedulers multiply the rate of the step before, once a step; a factor here is computed from the step's number.
TORCHS_SCHEDULES = 1e-9

# Quantiles of Student's distribution by two ways of scipy's: its iteration ends there.
QUANTILES = 1e-6

# bfloat16 and float16 states of a rule that sums, over three steps: a rounding of 2^-8 at each store.
SUMS_LOW = 1e-2

# The table of where torch's forms part names values of float16 and bfloat16 with three digits.
TABLE_OF_LOW = 1e-3

# What a state of bfloat16 begins with lies within half an ulp, 2^-9, of the number that is said.
BEGINNING = 4e-3

# The same tanh from Triton's interpreter and from torch, ulp of the dtype: exp(2x), a sum and a division.
TRITON_TANH_ULP = 8

# A number as it is printed: half of its last digit.
PRINTED_ONE_DECIMAL = 0.05 + 1e-3  # and what the number is rounded by before it is a percentage
PRINTED_TWO_DECIMALS = 0.005
PRINTED_FIVE_DECIMALS = 6e-6  # from weights that are solved for in float64, and printed elsewhere from another solver
PRINTED_EIGHT_DECIMALS = 5e-8  # of a mean of float32 labels
PRINTED_SIX_DIGITS = 5e-6
PRINTED_THREE_DIGITS = 0.005
SAID_THREE_DIGITS = 0.006  # of a number or of 1 minus it, whichever says more

# A point of the picture under a mouse that stands on whole pixels.
WHOLE_PIXELS = 2e-3

# A view as an address keeps it: five digits.
VIEW_IN_ADDRESS = 1e-4

# Numbers that a story says in its sentence, with two digits; what it calls about so; and a circle's radius.
STORY = 0.01
STORY_ABOUT = 0.08
STORY_ROUND = 0.02

# What stands still at a minimum that it has reached.
STANDS_STILL = 1e-8

# The mean of twelve batch losses, of batches that do not move, beside the loss of all samples.
MEAN_OF_BATCHES = 0.02

# A time found between two measured ones.
INTERPOLATED = 1e-3

# A hundred Sobol points on their own scale: how far their mean lies from the middle, in powers of ten.
SPREAD_EVENLY = 0.05

# The spread of 200 seeds' first weights beside the one that the book states: sampling alone gives some per cent.
SPREAD_OF_STARTS = 0.1

# The least value of a surface without a known minimum, on the grid on which it is looked for: half a step, squared.
GRID_OF_A_SURFACE = 1e-3

# Where damped Newton steps end on a typed formula: the root of what float64 holds of its value, and what its curvature adds.
BOTTOM = 1e-7

# A contour of a quadratic, drawn by straight pieces across the cells of a grid of 200: their sagitta.
CONTOUR = 1e-3

# The area within a contour that is drawn by straight pieces, beside the exact one.
AREA_OF_A_CONTOUR = 0.03

# Prodigy beside its authors' class, float64, thirty steps: sums over all tensors in another order decide the next learning rate.
PRODIGY_FLOAT64 = 1e-11

# A rule with totals beside the same sums computed in the open, float64, eight steps.
TOTALS_FLOAT64 = 1e-12

# A rule of matrices in float64, six steps: products add in another order where they are batched, and Newton-Schulz multiplies what is
# lost by the slope of its polynomial at each step.
MATRICES_FLOAT64 = 1e-11

# Whole trainings of a matrix in a browser, 40 steps, relative to the largest weight if that is above one: what Newton-Schulz multiplies at
# one step, the next one multiplies again.
MATRICES_WALKED = 1e-9

# The loss behind 20 steps of Muon in a browser beside torch's: the page rounds what goes into Newton-Schulz to bfloat16, and torch rounds
# each of its products to 8 bits too.
IN_BFLOAT16 = 0.1

# Singular values of 8 x 8 by one-sided Jacobi beside LAPACK's, relative to the largest: a few ulp for each of the turns.
SINGULAR_VALUES = 1e-13

# The same for rules drawn at random, relative to one more than the largest element: norms divide what cancels.
MATRICES_DRAWN = 1e-7

# Muon in bfloat16 against torch's, on parameters of size one and steps of 0.02: five steps of Newton-Schulz in 8 bits each.
MUON_BFLOAT16 = 0.02

# Chances of ranks against counted choices, relative: differences of logarithms of gamma functions, whose values reach 1,500.
CHANCES = 1e-11

# The interval of a difference by plain loops and exact binomials, relative: the race has these from the logarithms of gamma functions, and
# leaves out ranks whose chances add up to less than 1e-9.
LUCKS = 1e-6

# What follows from a cast, four steps at a rate of 0.3 in float32: both forms round the same numbers, but for a sum in another order, which
# moves few of them by a unit.
CAST_ROUNDED = 2e-5

# Singular values of the orthogonal factor in bfloat16 by Muon's coefficients: in exact arithmetic they end within 0.68 to 1.14.
MUON_SINGULAR = (0.6, 1.3)

# The quantile of the normal distribution, relative: Acklam's rational functions are within 1.15e-9.
NORMAL_QUANTILE = 1.2e-9

# Hutchinson's estimate on a square, relative: two gradients of 16 digits differ in the third, and what is left is divided by 1e-3.
HUTCHINSON_QUADRATIC = 1e-11

# A judged race's means and intervals against the race's own: the same sums in another order, and one exponential more.
JUDGED_AGAIN = 1e-12

# The share of simulated tables in which the runs that a pair was told it needs do decide it: 80 % were promised for the true difference
# and spread; 400 tables leave a standard error of 2 %, and Welch's freedom is not that of the formula.
POWER_PROMISED = (0.74, 0.88)

# Per cents of judged pairs, and p-values far out in a tail: small differences of logarithms, whose last bits weigh a thousand times as much.
JUDGED_PERCENT = 1e-9

# The mean difference of two methods whose losses have a noise of 0.1 % around means that differ by a fifth, six runs each.
JUDGED_MEAN = 0.01

# Levels of a hundred thousand ideas beside the 1 that all of them add up to: what is left of the decaying part.
LEVELS_OF_MANY = 1e-3

# Losses of frameworks' trainings whose model computes in bfloat16, relative: weights an ulp of float32 apart may round to neighbouring
# values of bfloat16, 2^-8 of one weight in hundreds.
LOSSES_BFLOAT16 = 1e-3

# The share of simulated ablations in which an effect as large as the smallest that is said to be found is found: 80 % are promised, for
# normal noise and the true spread; 120 rules leave a standard error of 4 %, and heavy tails and a spread that was guessed from a dozen
# studies take some of it.
ABLATION_POWER = (0.65, 0.92)

# Rounding by chance: a kernel's float32 is a few ulp (2^-24) from the author's, so of 2^16 (2^13 in float16) random numbers a few round
# the other way, to the neighbour: the share of elements, three steps, each of which hands the difference on to the next.
OTHER_ROUNDINGS = 0.02

# A parameter and what it lost, added: of what a kernel's float32 is apart from the author's (`FORMS_FLOAT32`), and then of a rounding of what
# was lost to the other neighbour. That is 2^-8 of the parameter in bfloat16 and 2^-11 in float16, and is held to as many bits again.
KEPT_BFLOAT16 = FORMS_FLOAT32 + 2.0**-16
KEPT_FLOAT16 = FORMS_FLOAT32 + 2.0**-21

# One step of a parameter near 1 and what it lost beside float64: the step in float32 (2^-24), and float16's least number (2^-24).
KEPT_ONE_STEP = 2 * 2.0**-24

# The same after some steps in bfloat16: each step rounds what was lost, which is below 2^-8, to eight bits: by 2^-17 at most.
KEPT_STEP_BFLOAT16 = 2.0**-17
# In float16: what was lost is below 2^-11, and is rounded to eleven bits, by 2^-23 at most.
KEPT_STEP_FLOAT16 = 2.0**-23

# A state in float32 near 1 over steps of one sign: a rounding (2^-24) in each.
STATE_STEP_FLOAT32 = 2.0**-24

# A mean or a count of draws whose distribution is known: standard errors. Of a hundred such tests one in a million fails by chance.
CHANCE = 5.5
