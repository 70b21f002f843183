"""What points to which family: words of prose and code, and options of recipes.

A plain table, so that a reader can see and change why a method was put where it is. Patterns are
regular expressions over words spelled with spaces (`ccs_es` is `ccs es`).
"""

from aarlab.core.ideas import IdeaFamily

WORDS: dict[IdeaFamily, tuple[str, ...]] = {
    "loss": (
        r"\bloss(es)?\b(?! (curve|traject|gap|differ))",
        r"\bcross entropy\b",
        r"\breverse (kl|ce|cross)\b",
        r"\baux(iliary)? conf",
        r"\bvanilla\b",
        r"\b(product|window|focal|hinge|brier) (loss|target)",
        r"^(product|window|entropy)$",
        r"\bself targets?\b",
        r"\bmargin loss\b|\btemperature scaled loss\b",
    ),
    "selection": (
        r"\bselect(ed|ion|ing)?\b",
        r"\bfilter(s|ed|ing)?\b",
        r"\bdrop(s|ped)? (the )?(worst|rows|noisy|low)|\bneighbourhood (drop|logistic|component)\b",
        r"\bkeep (only|the|top|fraction|share)|\bkept (rows|share|half)\b|\btop rows\b",
        r"\bconfident( labels| rows| subset)?\b(?! first)",
        r"\boverlap density\b",
        r"\bcore ?set\b|\bsubset\b|\bprun(e|ed|ing)\b",
        r"\bneighbour(s|hood)?\b|\bneighbor(s|hood)?\b|\bknn\b",
    ),
    "reweighting": (
        r"\bre ?weigh(t|ts|ted|ting)?\b",
        r"\b(sample|row|example|instance) weights?\b|\bweights? (n|rows|each|by)\b"
        r"|\bweigh(s|ed)?\b",
        r"\bimportance\b",
        r"\bdensity ratio\b",
        r"\bcalibrated weights?\b|\breliability weights?\b",
    ),
    "relabelling": (
        r"\bre ?label(s|l?ed|l?ing)?\b",
        r"\bposterior\b",
        r"\bchannel\b|\bnoise (model|rate|matrix|transition)|\btransition matrix\b",
        r"\bem\b|\bexpectation maximi[sz]ation\b",
        r"\bdenois(e|ed|ing)\b",
        r"\blabel propagation\b|\bpropagat(e|ed|ion)\b",
        r"\b(label|platt|isotonic) (correction|calibration)|\brecalibrat",
        r"\bdawid\b|\bconfusion matrix\b",
    ),
    "elicitation": (
        r"\bzero shot\b",
        r"\bfew shot\b|\bin context\b",
        r"\belicit(s|ed|ation|ing)?\b",
        r"\bicm\b|\bcoheren(t|ce)\b",
        r"\bprompt(s|ed|ing)\b|\b(own|tuned|instruction) prompt\b|\bprompt template",
        r"\bown (knowledge|answers?|belief)|\bknows\b",
        r"\bpmi\b|\banswer logp\b|\bmargins?\b",
        r"\bconsisten(t|cy) (rows|labels|check)|\bconsistent rows\b",
        r"\bverdict margins\b",
    ),
    "probing": (
        r"\bccs\b|\bcontrast (consistent|states|pairs?)\b",
        r"\bvinc\b",
        r"\bprobe(s|d)?\b|\bprobing\b",
        r"\btruth (mean|pca|direction|probe)|\bdirection in\b",
        r"\bpca\b|\bprincipal\b|\bsvd\b",
        r"\bhidden states?\b|\brepresentations?\b|\bactivations?\b",
        r"\bbest layer\b|\bsweep(s)? layers\b|\bper layer\b",
        r"\bdifference in means\b|\bsteering\b",
    ),
    "teachers": (
        r"\bensemble(s|d)?\b",
        r"\b(several|multiple|many|all|more) (weak )?teachers\b|\bvanilla teachers\b",
        r"\bteacher labels( sn)?\b",
        r"\bboost(ed|ing)?\b|\badaboost\b",
        r"\bco supervised\b|\bmixture of (teachers|experts)\b|\bclosest teacher\b",
        r"\bmajority vote\b|\bvot(e|es|ing)\b",
        r"\bbayesian\b|\bbeta labels\b",
        r"\breliability\b",
    ),
    "curriculum": (
        r"\bcurriculum\b",
        r"\beas(y|ier|iest) (to|before|first|half|share|rows)\b|\bconfident first\b"
        r"|\bhard (last|later)\b",
        r"\b(training|learning) dynamics\b|\blearning speed\b",
        r"\bsmall loss\b|\bco teaching\b",
        r"\bloss (curve|traject|gap|differ)|\bforgetting\b|\bmemoris",
        r"\bearly (stop|stopping|stopped)\b",
        r"\bmdl\b|\bepiplexity\b|\bdescription length\b",
        r"\bgo on\b|\bwarm ?up\b|\banneal",
    ),
    "self_training": (
        r"\bself train(s|ed|ing)?\b",
        r"\bpseudo ?labels?\b",
        r"\bdistil(l|led|lation|ling)?\b",
        r"\bborn again\b",
        r"\bbootstrap(s|ped|ping)?\b",
        r"\bout of fold\b|\bcross fit(ted)?\b",
        r"\btwo stage\b|\bco training\b|\bmean teacher\b|\bstudent teaches\b",
        r"\biterat(e|ed|ive) (training|labels|rounds)",
    ),
    "simplicity": (
        r"\bsimplicity\b|\bsimple(r|st)? (model|student|function)",
        r"\bregulari[sz](e|ed|er|ation)\b",
        r"\blow rank\b|\beffective rank\b|\bnuclear norm\b",
        r"\bweight decay\b|\bdropout\b|\bridge\b|\blasso\b",
        r"\blabel smoothing\b|\bsmoothing\b|\bmix ?up\b",
        r"\b(fewer|small|tiny) (parameters|heads?|epochs)",
        r"\bweight averag|\bswa\b|\bema\b",
        r"\bpenalty\b|\bspectral\b",
    ),
    "generation": (
        r"\bdebat(e|es|ed|er|ers)\b",
        r"\bcriti(c|cs|que|ques)\b",
        r"\bgenerat(e|es|ed|ive|ion) (finetuning|fine tuning|critique|text|answers?|reasoning)",
        r"\b(grpo|rlhf|reinforce|policy gradient|reward)\b",
        r"\bevolution(ary)?\b|\bes\b|\bfitness\b|\bevolve\b|\bantithetic\b",
        r"\bchain of thought\b|\breasoning\b|\bsample(d)? (answers|solutions)",
        r"\bgradient free\b|\bblack box (search|optimi)",
        r"\bwritten\b|\bgenerate options\b|\blm options\b",
    ),
}

SPECIFIC: dict[IdeaFamily, float] = {"loss": 0.5, "selection": 0.8, "reweighting": 0.8}
"""Any training code has a loss, rows and weights, so these words count less. Others count 1."""

TIES: tuple[IdeaFamily, ...] = (
    "generation",
    "probing",
    "curriculum",
    "simplicity",
    "teachers",
    "elicitation",
    "relabelling",
    "self_training",
    "reweighting",
    "selection",
    "loss",
)
"""Who wins with equal points: the family whose words are rarer in code."""

SETTINGS: dict[str, tuple[IdeaFamily, float]] = {
    "label.source=em_posterior": ("relabelling", 4.0),
    "label.source=zero_shot": ("elicitation", 4.0),
    "label.source=posterior": ("elicitation", 3.5),
    "label.source=blend": ("elicitation", 3.5),
    "label.temperature": ("relabelling", 0.5),
    "select.kind": ("selection", 3.0),
    "train.order=confident_first": ("curriculum", 2.75),
    "train.rounds": ("self_training", 2.75),
    "train.weighting=confidence": ("reweighting", 2.5),
    "train.loss": ("loss", 2.25),
    "predict.kind=zero_shot": ("elicitation", 5.0),
    "predict.kind=blend": ("elicitation", 2.0),
    "predict.members": ("teachers", 1.75),
    "train.hidden": ("simplicity", 1.0),
    "train.smoothing": ("simplicity", 1.0),
    "train.weight_decay": ("simplicity", 0.75),
    "train.targets=hard": ("loss", 0.25),
}
"""Points of a recipe's options, earlier stages first: labels decide more than the number of
students. A recipe with none of them is plain training on the weak labels: `loss`."""
