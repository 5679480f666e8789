"""Signs after an answer that it does not count; a test runs the example of each row."""

from __future__ import annotations

from llmrl.verifiers.math.signs import COPULA, DEGREE, FAILS, FAULT, NOT, REPAIR, UNLIKE, Sign

AT_ONCE = (
    Sign(
        rf"\(?(?:(?:above\s*,?\s*)?(?:which|that|this|it)\s+)?(?:{COPULA}|would\s+be|are)\s+{DEGREE}(?:{FAULT}|{UNLIKE}"
        r"|the\s+(?:naive|tempting|obvious\s+but|wrong|trap)|impossible"
        r"|too\s+(?:small|large|big|low|high|few|many|much)\b"
        r"|(?:not|n['’]t)(?:\s+(?:the|my|a|an)\s+(?:\w+\s+)?(?:answers?|solutions?|value|result)\b|\s+(?:possible|it|so)\b"
        r"|\s*[.,;!]|\s*$))",
        r"\boxed{5} is too small.",
    ),
    Sign(
        r"\(?(?:(?:which|that|this|it)\s+)?(?:isn|wasn|aren)['’]t\s+(?:the\s+|my\s+|a\s+)?(?:\w+\s+)?(?:answer|right|correct|valid|possible)",
        r"\boxed{5} isn't right.",
    ),
    Sign(
        r"(?:cannot|can['’]t|could\s+not)\s+be\s+(?:the\b|right|correct|true|it\b|so\b|an?\s|valid|accepted|possible|[.,;!])",
        r"\boxed{5} cannot be a root.",
    ),
    Sign(rf"\(?(?:(?:which|that|this|it)\s+)?{FAILS}", r"\boxed{5} violates the bound."),
    Sign(r"\(or\s+[^()\n]{1,40}?\b(?:if|when|depending|assuming)\b", r"\boxed{5} (or 4, if zero counts)"),
    Sign(r"or\s+so\s+(?:i|we)\b|give\s+or\s+take|(?:or\s+)?(?:perhaps|maybe|possibly)\b", r"\boxed{5}, give or take"),
    Sign(r"(?:and|or|to|alternatively,?|resp(?:ectively|\.),?)\s+\$?[-+]?\d", r"It is between \boxed{5} and 7."),
    Sign(
        r"or\s+(?:(?:any|every|some)(?:thing|one)?|all|an?other|other|more|less|fewer|larger|greater|higher|lower|smaller)\b"
        r"(?!\s+(?:\w+\s+)?(?:equivalent|forms?|orders?|notations?)\b)",
        r"\boxed{5} or any multiple of it",
    ),
    Sign(r"(?:and\s+so\s+(?:on|forth)|etc|(?:among|and)\s+others)\b", r"\boxed{5} and so on"),
    Sign(r"(?:is|['’]s)\s+what\b(?!\s+(?:we|was|is|i)\b)", r"\boxed{5} is what the hasty reader gets"),
    Sign(
        r"(?:counts?|includes?|covers?)\s+(?:\w+\s+){1,3}(?:twice|double|too\s+\w+)\b",
        r"\boxed{5} counts every pair twice",
    ),
    Sign(r"(?:/|→|⇒|->|\\(?:to|rightarrow)(?![a-z]))\s*[\d$]|\(?\s*[\d.]+\s*\?\)", r"\boxed{5}→6"),
    Sign(r"[，是]?(?:不|错)", r"\boxed{5}不对"),
)
"""What follows the answer at once, after signs and blanks."""

TAKES_BACK = (
    Sign(
        r"\b(?-i:I)\s+(?:doubt|guess|suppose|fear|suspect|wonder)\b",
        r"\boxed{5}, if I read the figure well, which I doubt",
    ),
    Sign(
        r"(?:made|is|was|contains|be)\s+(?:a|an|some|in)\s+(?:\w+\s+)?(?:mistake|error|slip|blunder)(?!\s+to\b)",
        r"Choosing \boxed{5} here was a blunder.",
    ),
    Sign(
        r"\b(?:(?-i:I)|we)\s+(?:accidentally\s+|have\s+)?(?:mis(?:read|calculated|counted|copied|took|placed|interpreted"
        r"|understood|stated)|forgot(?:ten)?|overlooked|(?:double[-\s]|over|under)counted|dropped|lost\s+(?:a|the)"
        r"|mixed\s+up|left\s+out|swapped|mean(?:t)?\b(?!\s+that))",
        r"\boxed{5}. Here we forgot the second case.",
    ),
    Sign(
        r"\b(?:(?-i:I)|we)\s+(?:still|also)\s+(?:need|must|have\s+to)\b|\b(?:(?-i:I)|we)\s+have\s+yet\s+to\b|\bit\s+remains\s+to\b",
        r"There are 5 boys. We still need the girls.",
    ),
    Sign(
        r"\b(?:answer|result)\s+(?:could|might|may)\s+(?:also\s+|instead\s+)?be\b(?!\s+\w+(?:ed|en|wn|nd)\b)",
        r"\boxed{5}. Note: on another reading the answer could be 7",
    ),
    Sign(
        r"\b(?:half|not\s+(?:too|very|entirely|fully|quite))\s+sure\b|\bcould\s+(?:just\s+)?as\s+well\b",
        r"\boxed{5}, which could just as well be 4",
    ),
    Sign(r"[✗✘❌⨯]", "\\boxed{5} ❌"),
    Sign(r"\d\s*\$?(?:≠|\\neq?\b)\s*\$?\d", r"\boxed{5}. Check: 2(5) + 1 = 11 ≠ 13"),
)
"""Looked for anywhere after the answer."""

IN_SENTENCE = (
    Sign(
        rf"\b{NOT}\s+(?:(?!hard\b|difficult\b|only\b)\w+\s+){{0,2}}?(?:right|correct|allowed|permitted|hold)\b",
        r"\boxed{5}. The count is not right.",
    ),
    Sign(
        r"\b(?:an?|my|the|sign|arithmetic|some)\s+(?:\w+\s+)?(?:errors?|mistakes?|slips?)\b(?!\s+(?:is\s+|would\s+be\s+)?(?:to|in|of)\b)",
        r"\boxed{5}. The proof has a mistake.",
    ),
    Sign(rf"\b{FAILS}", r"\boxed{5}. The 5 does not work."),
    Sign(
        r"\b(?:wrong|incorrect|invalid|fails?|failed|contradict(?:s|ion)|impossible|undefined)\b",
        r"\boxed{5}. The method is wrong.",
    ),
    Sign(
        r"\brul(?:es?|ed)\s+(?:it|this|that|them)?\s*out\b(?!\s+\(?[A-Z]\b)|\b(?:excluded|eliminated|reject(?:s|ed)?|discard(?:s|ed)?|refuted|disregard|kills)\b",
        r"\boxed{5}. The bound rules it out.",
    ),
    Sign(r"\b(?:misprint|typo|premature(?:ly)?|blunder|decoy|faulty|broke\s+off)\b", r"\boxed{5}. A blunder."),
    Sign(
        r"\bcan(?:not|['’]t)\s+be\s+(?:right|correct|true|what|so|it|the\s+answer|accepted)\b",
        r"\boxed{5}. A probability cannot be so.",
    ),
    Sign(
        r"\bwhich\s+(?:double-?)?counts\b|\bwhat\s+(?:you|one|we)\s+gets?\s+(?:if|when|by)\b",
        r"\boxed{5}, which counts pairs twice",
    ),
    Sign(
        r"\b(?-i:I)\s+(?:\w+\s+)?(?:(?:can|could|did|do)\s*(?:not|n['’]t)|can['’]t)\b(?!\s+(?:use|need|want|have\s+to)\b)",
        r"\boxed{5}, which I cannot confirm",
    ),
)
"""Looked for in a sentence after the answer, unless the sentence is about something else."""

DENIES = (
    Sign(
        r"\b(?:this(?!\s+(?:method|process|technique|approach|fact|question|step)\b)|that(?=\s+(?:is|was|does|did|has|can|could|cannot|would|will|answer|result|value)\b)|it|(?-i:I)|the\s+(?:answer|result|value|number|problem|equation|lemma|claim|proof|argument|formula|question|model))\b"
        r"[^.!?\n]{0,60}?(?:\b(?:(?<!\bor )not|never|no\s+longer|cannot|false|broken|faulty|flawed)\b|n['’]t\b)"
        r"(?!\s+(?:\w+\s+)?(?:extraneous|hard|difficult|easy|need|depend|matter|change|affect|afford|surpris\w+|necess\w+|clear|"
        r"coinciden\w+|simplif\w*|expand|know|be\s+(?:simplified|factored|reduced|solved|improved)|use|required|to\s+\w+|the\s+same|too\b)\b)",
        r"\boxed{5}. The lemma does not apply.",
    ),
)
"""Looked for in a later sentence that is about the answer: its pronoun most likely stands for it."""

BREAKS_OFF = (
    Sign(r"\?(?!\s*(?:yes\b|indeed|correct|right|sure))", r"\boxed{5}?"),
    Sign(
        rf"(?:-{{2,9}}|[—–.,!…;]{{1,9}})\s{{0,9}}(?:no,?\s+)?(?:{REPAIR}|make\s+that|or\s+rather)(?:[\s,]*[,.:!—–-]|\s+that|\s*[-+$\d\\]|\s*$)",
        r"\boxed{5}, or rather 7",
    ),
)
"""What follows the answer at once, and breaks off."""

HEDGES = (
    Sign(
        r"(?-i:(?=[a-z,;(—–-]))[,;(—–-]?\s*(?:was|would|could|might|may|assuming|provided|unless)\b",
        r"\boxed{5}, assuming a fair coin",
    ),
    Sign(
        r"[,;(—–-]?\s*(?:is|are)\s+(?:only|merely|just)\s+(?:\w+\s+)?(?:\w+\s+)?(?:answer|result|step|part|half|first|bound|estimate|guess)\b",
        r"\boxed{5} is only a bound",
    ),
    Sign(
        r"[,;(—–-]?\s*(?:is|are)\s+(?:(?:the\s+)?(?:answer|solution|result)\s+(?:to|of|for)\s+an?(?:other)?\s+(?:different|other|wrong)|an?\s+(?:different|wrong)|another)\b",
        r"\boxed{5} is another matter",
    ),
    Sign(
        r"[^.!?\n]{0,120}\b(?:otherwise|under\s+(?:a|an|the)?\s*(?:different|other|another))",
        r"\boxed{5} if n is even, otherwise 7",
    ),
)
"""How the sentence of the answer goes on that only reports, supposes or limits it."""
