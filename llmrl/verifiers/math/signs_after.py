"""Signs after an answer that it does not count; a test runs the example of each row."""

from __future__ import annotations

from llmrl.verifiers.math.signs import COPULA, DEGREE, FAILS, FAULT, NOT, REPAIR, THIS, UNLIKE, Sign

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
    Sign(r"or\s+so\s+(?:i|we)\b|give\s+or\s+take|(?:or\s+)?(?:perhaps|maybe|possibly)\b", r"\boxed{5}, give or take"),
    Sign(r"(?:and|or|to|alternatively,?)\s+\$?[-+]?\d", r"It is between \boxed{5} and 7."),
    Sign(r"(?:is|['’]s)\s+what\b(?!\s+(?:we|was|is|i)\b)", r"\boxed{5} is what the hasty reader gets"),
    Sign(
        r"(?:counts?|includes?|covers?)\s+(?:\w+\s+){1,3}(?:twice|double|too\s+\w+)\b",
        r"\boxed{5} counts every pair twice",
    ),
    Sign(r"(?:/|→|⇒|->|\\(?:to|rightarrow)(?![a-z]))\s*[\d$]|\(?\s*[\d.]+\s*\?\)", r"\boxed{5}→6"),
)
"""What follows the answer at once, after signs and blanks."""

TAKES_BACK = (
    Sign(
        r"(?:^|[.!?]\s|\n)\s*(?:please\s+)?[a-z]+\s+(?:that|this|it)(?:\s+(?:out|back|away|again))?\s*(?:[.:!]|$)",
        r"\boxed{5}. Cross that out.",
    ),
    Sign(
        r"\b(?-i:I)\s+(?:doubt|guess|suppose|fear|suspect|wonder)\b",
        r"\boxed{5}, if I read the figure well, which I doubt",
    ),
    Sign(
        r"\blet\s+(?:me|us)\s+(?:redo|recompute|recalculate|reconsider|rethink|start\s+over|start\s+again|try\s+again)",
        r"\boxed{5}. Let me try again.",
    ),
    Sign(
        rf"\b{THIS}\s*(?:can(?:not|['’]t)|could(?:\s+not|n['’]t))\s+be\s+(?:right|correct|true|it|so|the)\b",
        r"\boxed{5}. That can't be right, for 1 is the limit.",
    ),
    Sign(
        rf"\b{THIS}\s*(?:{COPULA}\s+{DEGREE}(?:{FAULT}|not\s+(?:\w+\s+)?(?:right|correct))|{FAILS})",
        r"\boxed{5}. Sadly that is nonsense.",
    ),
    Sign(
        rf"\b{THIS}\s*(?:is|['’]s)\s+(?:not\s+what\s+(?:was|is)\s+asked|(?:\w+\s+)?(?:less|more|greater|larger|smaller|bigger|fewer|lower|higher)\s+than\s+"
        r"(?:that|this|it)\b|(?:only|just|merely)\s+(?:part|half)\b)",
        r"\boxed{5}. It is less than that.",
    ),
    Sign(
        rf"\b{THIS}\s*(?:was|were|came)\s+(?!(?:not\s+)?(?:a\s+|an\s+|quite\s+|very\s+)?(?:fun|eas\w+|nice\w*|hard\w*|quick\w*|simpl\w+|straightforward"
        r"|expected|interesting|great|good|to\s+be|as\s+expected|asked|shown|found|obtained|computed|derived|given|verified|checked|done|confirmed|indeed|right|correct)\b)",
        r"\boxed{5}. That was for three dice.",
    ),
    Sign(
        rf"\b{THIS}\s*(?:seems?|looks?|sounds?|feels?)\s+(?!(?:very\s+|quite\s+)?(?:right|correct|reasonable|plausible|good|fine|consistent|ok))",
        r"\boxed{5}. That seems high for two dice.",
    ),
    Sign(rf"\b{THIS}\s*would\s+be\s+(?:\w+er|more|less|better|wise|safe)\b", r"\boxed{5}. It would be safer to say 6."),
    Sign(
        r"\bthe\s+above\s+(?:is(?!\s+(?:true|right|correct|the\s+same)\b)|was|has|as|should|may|work|answer|result|solution|box)\b"
        r"|\babove\s+(?:work|answer|result|solution|box)\b",
        r"\boxed{5}. Take the above as a sketch.",
    ),
    Sign(
        r"(?:^|[.!?]\s|\n)\s*(?:please\s+)?(?:replace|change|make\s+(?:that|it)|correct\s+that|treat)\b|\bchange\s+my\b",
        r"\boxed{5}. Replace this by 6.",
    ),
    Sign(
        r"(?:^|[.!?;]\s|\n)\s*(?:find|explain|spot|identify|determine)\s+(?:where|why|what|how|the|his|her)\b",
        r"\boxed{5}. Explain the gap.",
    ),
    Sign(
        r"\b(?:halv(?:e|ing)|doubl(?:e|ing))\s+(?:it|this|that)\b",
        r"\boxed{5}. Halving this gives the count.",
    ),
    Sign(
        r"(?:^|[.!?]\s|\n)\s*(?:more|to\s+be)\s+(?:precise|exact|accurate)(?:ly)?\b", r"\boxed{5}. More precisely, 6."
    ),
    Sign(
        rf"\b{THIS}\s*(?:(?:should|ought\s+to)\s+(?:have\s+been|be|actually\s+be)|(?:could|might|may)\s+(?:also|as\s+well|just\s+as\s+well|instead)\b)",
        r"\boxed{5}. It should have been 7.",
    ),
    Sign(
        r"(?:made|is|was|contains|be)\s+(?:a|an|some)\s+(?:\w+\s+)?(?:mistake|error|slip|blunder)(?!\s+to\b)",
        r"Choosing \boxed{5} here was a blunder.",
    ),
    Sign(
        r"\b(?:scratch|ignore|disregard|forget|strike|scrap|discard|delete)\s+"
        r"(?:that\b(?!\s+\w)|this\b(?!\s+\w)|it\b|(?:the|my)\s+(?:above|previous|last|box|earlier|first))",
        r"\boxed{5}. Strike the last line.",
    ),
    Sign(
        r"\b(?:(?-i:I)|we)\s+(?:accidentally\s+|have\s+)?(?:mis(?:read|calculated|counted|copied|took|placed|interpreted"
        r"|understood|stated)|forgot(?:ten)?|overlooked|(?:double[-\s]|over|under)counted|dropped|lost\s+(?:a|the)"
        r"|mixed\s+up|swapped|mean(?:t)?\b(?!\s+that))",
        r"\boxed{5}. Here we forgot the second case.",
    ),
    Sign(r"\bon\s+second\s+thoughts?\b|\bnever\s+mind\b", r"\boxed{5}. Never mind the 5."),
    Sign(
        r"\b(?:(?-i:I)|we)\s+(?:still|also)\s+(?:need|must|have\s+to)\b|\b(?:(?-i:I)|we)\s+have\s+yet\s+to\b|\bit\s+remains\s+to\b",
        r"There are 5 boys. We still need the girls.",
    ),
    Sign(r"[✗✘❌⨯]", "\\boxed{5} ❌"),
    Sign(r"\d\s*(?:≠|\\neq?\b)\s*\d", r"\boxed{5}. Test: 79 ≠ 80"),
)
"""Looked for anywhere after the answer."""

IN_SENTENCE = (
    Sign(
        rf"\b{NOT}\s+(?:(?!hard\b|difficult\b|only\b)\w+\s+){{0,2}}?(?:right|correct|allowed|permitted|possible|what|hold)\b",
        r"\boxed{5}. Repetition is not allowed.",
    ),
    Sign(
        r"\bdo(?:\s+not|n['’]t)\s+(?:count|use|trust|grade|take|accept)\s+(?:this|that|it|the|my)\b",
        r"\boxed{5}. Do not use this.",
    ),
    Sign(
        r"\b(?:wrong|incorrect|invalid|fails?|failed|contradict(?:s|ion)|impossible|undefined)\b",
        r"\boxed{5}. The test fails.",
    ),
    Sign(
        r"\brul(?:es?|ed)\s+(?:it|this|that|them)?\s*out\b|\b(?:excluded|eliminated|rejected|discarded|refuted|kills)\b",
        r"\boxed{5}. The bound rules it out.",
    ),
    Sign(r"\b(?:misprint|typo|premature(?:ly)?|blunder|decoy|faulty|broke\s+off)\b", r"\boxed{5}. A blunder."),
    Sign(
        r"\bno\s+(?:clue|idea|solutions?)\b|\bnone\s+of\s+(?:this|that|the\s+(?:above|options|choices|answers)|it)\b|\b(?:nobody|no\s+one)\b",
        r"\boxed{5}. None of the options match.",
    ),
    Sign(
        r"\bcan(?:not|['’]t)\s+be\s+(?:right|correct|true|what|so|it|the\s+answer|accepted)\b",
        r"\boxed{5}. A probability cannot be so.",
    ),
    Sign(r"\b(?:was|is|too)\s+(?:too\s+)?(?:early|soon|fast|quickly|hasty)\b", r"\boxed{5}. Too hasty."),
    Sign(
        r"\bwhich\s+(?:double-?)?counts\b|\bwhat\s+(?:you|one|we)\s+gets?\s+(?:if|when|by)\b",
        r"\boxed{5}, which counts pairs twice",
    ),
    Sign(
        r"\b(?:an?|my|the|sign|arithmetic|some)\s+(?:\w+\s+)?(?:errors?|mistakes?|slips?)\b(?!\s+(?:is\s+|would\s+be\s+)?(?:to|in|of)\b)",
        r"\boxed{5}. Look for an error above.",
    ),
    Sign(r"\b(?:withdraw(?:ing|n)?|retract(?:ing|ed)?|scrap|scratch|disregard)\b", r"\boxed{5}. All withdrawn."),
    Sign(r"\b(?-i:I)\s+have\s+to\s+correct\b|\bonly\s+the\s+first\b", r"\boxed{5}. This is only the first part."),
    Sign(
        r"\b(?-i:I)\s+(?:\w+\s+)?(?:(?:can|could|did|do)\s*(?:not|n['’]t)|can['’]t)\b(?!\s+(?:use|need|want|have\s+to)\b)",
        r"\boxed{5}, which I cannot confirm",
    ),
    Sign(
        r"(?:^|[.!?)]\s|\n)\s*(?:but|yet|however|unfortunately|alas|except|unless|though)\b"
        r"(?!\s+(?:\w+\s+)?(?:you|one|we)\s+(?:can|could|may))(?![^.!?\n]{0,80}(?:\?|\b(?:way|method|approach|proof|solution)s?\b))",
        r"\boxed{5}. However, the die has eight sides.",
    ),
    Sign(
        r"\b(?:assumes|presumes|supposes|ignores|neglects|leaves\s+out)\b[^.!?\n]*\b(?:but|though|which|yet)\b",
        r"\boxed{5}. This assumes a disc, though it is a square.",
    ),
)
"""Looked for in a sentence after the answer, unless the sentence is about something else."""

DENIES = (
    Sign(
        r"\b(?:this|that|it|(?-i:I)|the\s+(?:answer|result|value|number|problem|equation|lemma|claim|proof|argument|formula|question|model))\b"
        r"[^.!?\n]{0,60}?(?:\b(?:not|never|no\s+longer|cannot|false|broken|faulty|flawed)\b|n['’]t\b)"
        r"(?!\s+(?:\w+\s+)?(?:extraneous|hard|difficult|easy|need|depend|matter|change|affect|afford|surpris\w+|necess\w+|clear|"
        r"coinciden\w+|simplif\w*|expand|know|be\s+(?:simplified|factored|reduced|solved|improved)|use|required|to\s+\w+|the\s+same|too\b)\b)",
        r"\boxed{5}. The lemma does not apply.",
    ),
)
"""Looked for in a later sentence that is about the answer: its pronoun most likely stands for it."""

BEGINS = (
    Sign(r"(?:rather|better|instead)[\s:,]{1,3}\$?[-+]?\d", r"\boxed{5}. Rather 7."),
    Sign(
        rf"(?:(?:well|actually|oh|ah|but|and|um+|uh)[,!]?\s+)?{REPAIR}\s*(?:[,.:!—–-]|$)|(?:wait|hmm+|oops|ugh|sorry)\b",
        r"\boxed{5}. Actually no: a die has eight sides.",
    ),
    Sign(r"(?:edit|correction|erratum|update)\s*:", r"\boxed{5}. Edit: eight sides."),
    Sign(
        r"the\s+(?:correct|right|true|real|actual)\s+(?:answer|value|result|number|one)\b(?!\s*\()",
        r"\boxed{5}. The true value is larger.",
    ),
)
"""How a sentence begins that takes back the answer before it."""

BREAKS_OFF = (
    Sign(r"\?(?!\s*(?:yes\b|indeed|correct|right|sure))", r"\boxed{5}?"),
    Sign(
        rf"(?:-{{2,9}}|[—–.,!…;]{{1,9}})\s{{0,9}}(?:no,?\s+)?(?:{REPAIR}|make\s+that|or\s+rather)(?:[\s,]*[,.:!—–-]|\s+that|\s*[-+$\d\\]|\s*$)",
        r"\boxed{5}, or rather 7",
    ),
)
"""What follows the answer at once, and breaks off."""

HEDGES = (
    Sign(r"[,;(—–-]?\s*(?:was|would|could|might|may|assuming|provided|unless)\b", r"\boxed{5}, assuming a fair coin"),
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

FOREIGN = (
    Sign(
        r"不对|，不[，,是]|(?<!没)(?<!没有)错|不正确|应该是|应为|不是|等等|等一下|重新|更正|抱歉|漏|哦不|いや|間違|違う",
        "\\boxed{5}\n不对。",
    ),
    Sign(
        r"\b(?:falsch|stimmt\s+nicht|moment|korrektur|verrechnet|doch\s+nicht|fehler|irrtum)\b",
        r"\boxed{5}. Moment, das stimmt nicht.",
    ),
    Sign(r"\b(?:faux|fausse|erreur|trompée?|n['’]est\s+pas|attendez|attends|pardon)\b", r"\boxed{5}. C'est faux."),
    Sign(
        r"\b(?:incorrect[oa]|fals[oa]|un\s+error|equivoqu\w+|me\s+equivoc\w+|espera|no\s+es)\b",
        r"\boxed{5}. Espera, no es eso.",
    ),
    Sign(r"\b(?:sbagliat[oa]|errore|anzi|aspetta|non\s+è)\b", r"\boxed{5}. Anzi, ho sbagliato."),
    Sign(r"\b(?:errad[oa]|incorret[oa]|erro|enganei|espere|não\s+é)\b", r"\boxed{5}. Está errado."),
    Sign(r"(?:неверн|неправильн|ошиб|подожди|\bнет\b)", r"\boxed{5}. Нет, это неверно."),
)
"""The same in other languages, anywhere after the answer."""
