"""Words and signs by which a response says what its answer is, and what it is not, as patterns for :mod:`.extract`."""

from __future__ import annotations

import re

TAGS = r"(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad|analysis|reflection)"
CLOSE = re.compile(
    rf"</{TAGS}>|\[/{TAGS}\]|<\|/{TAGS}\|>|<\|end_of_thought\|>|<\|end_thinking\|>|◁/think▷", re.IGNORECASE
)
OPEN = re.compile(
    rf"<{TAGS}>|\[{TAGS}\]|<\|{TAGS}\|>|<\|begin_of_thought\|>|<\|start_thinking\|>|◁think▷", re.IGNORECASE
)
CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,80}<\|message\|>|<\|(?:end|return|call)\|>")
"""How harmony says which part of a response the user sees: that of the channel ``final``."""
SPECIAL = re.compile(r"<\|(?:im_end|im_start|eot_id|endoftext|end_of_text|return|end|start|eom_id)\|>|</s>")
MARKUP = re.compile(r"</?(?:b|i|u|em|strong|p|span|div)>|<br\s?/?>", re.IGNORECASE)
"""Tags of HTML that only set a text."""
STRIKES = ("~~", "</", "cancel", "\\sout", "\\st")
"""One of these is in every text that crosses something out."""
STRUCK = re.compile(
    r"~~(?=\S)[^~]{1,2000}~~|<(s|del|strike)>[^<>]{0,2000}</\1>"
    r"|\\(?:[bx]?cancel|sout|st)\s?\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}",
    re.IGNORECASE,
)
"""What a response crosses out."""
SEQUENCE = re.compile(r"\s*<s>(?:(?!</s>).)*(?:</s>\s*)+", re.DOTALL)
"""A response between the tokens that begin and end it, which look like crossing out."""
BOX_TAGS = re.compile(r"<\|(begin|end)_of_box\|>")
BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
FENCED = re.compile(r"```(?:[^`]|`(?!``))*(?:```|\Z)")
PROGRAM = re.compile(
    r"^(?:[ \t]*(?:(?:def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[:(]"
    r"|(?:if|elif|else|while|for|try|with)\b[^:\n]*:[ \t]*(?=\n[ \t]|return\b|print\b)).*(?:\n[ \t]+\S.*)*"
    r"|(?:function\b[^({\n]*\([^)\n]*\)[ \t]*\{|assert\b.*==|return\b|import[ \t]+[A-Za-z_][\w.]*[ \t]*(?:[;,#]|as\b|$)"
    r"|from[ \t]+\S+[ \t]+import\b|print[ \t]*\(|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\("
    r"|(?:const|let|var|int|double)[ \t]+\w+[ \t]*=.*;[ \t]*$).*)"
    r"|.*(?:[(=,][ \t]*lambda[ \t]*:|(?<!\\)\blambda[ \t]+(?!is\b|are\b|equals\b)\w+(?:,[ \t]*\w+)*:).*)",
    re.MULTILINE,
)
"""Lines of a program, which is not executed: what it computes is not known."""
BARE_BOX = re.compile(r"\\boxed\s{0,4}([-+]?\d+(?:\.\d+)?|[A-Za-z])(?![\w{])")
OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")
ESCAPED_END = re.compile(r"\\boxed\s{0,4}\{([^{}\\]{1,200})\\\}(?![^{}]*\\boxed)")
"""A box whose closing brace has a backslash by mistake."""
REASONS = re.compile(r"\b(?:so|then|thus|hence|therefore|because|since|gives?|implies|it)\b|n['’]t\b", re.IGNORECASE)
UNSURE = re.compile(r"[^\n.!?]{1,60}\?\s*(?:no\b|not\b|$)", re.IGNORECASE)
ENDS_WITH_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}$")
EMPTY = re.compile(r"(?:[\s$~{}]|\\(?:[,;:! \\]|quad))*")
CORRECTS = re.compile(
    r"(?:(?:^|[\n.!?:;,(])[\s*#>_]{0,6}(?:[A-Za-z]+[,:]?\s+){0,2}"
    r"(?:the\s+)?(?:(?:final|correct|right|actual|true|real)\s+){0,2}answers?\b[*\s]{0,4}"
    r"(?:\s(?:is|should\s+be|must\s+be)\b[\s:]{0,4}|[:：])|\bcorrection\b[:\s]{1,4})[\s*:]{0,6}"
    r"(?=[-+$\d]|\\[(\[]|\(?[A-J]\)?(?:[\s.*)]|$))",
    re.IGNORECASE | re.MULTILINE,
)
"""An answer that is announced after a box, and counts instead."""
OTHERWISE = re.compile(
    r"\b(?:no|wait|edit|oops|sorry|kidding|rather|actually|hmm|hold\s+on)\b[\s,:.!-]{1,4}(?:[a-z]+[\s,:]{1,3}){0,3}?"
    r"(?:it|the\s+(?:\w+\s+)?answer|answer)(?:['’]s|\s+(?:is|should\s+be|must\s+be|equals))\s+(?:actually\s+|really\s+)?"
    r"(?=[-+$\d]|\\[(\[]|\(?[A-J]\)?(?:[\s.]|$))",
    re.IGNORECASE,
)
"""Second thoughts that give another answer: "No wait, it's 5."."""
CHOSEN = re.compile(
    r"(?:\b(?:option|choice|pick|choose|select)\b|故选|应选|所以选|因此选|选项是?|选择|选)[\s:：]{0,3}(?:\\text(?:bf|rm)?\s?\{|\*\*|[$(（\\]){0,4}"
    r"([A-J])(?![A-Za-z\d])"
    r"|\\textbf\s?\{\s*\(([A-J])\)\s*\}",
    re.IGNORECASE,
)
JOIN = re.compile(
    r"(?:[\s$,;.&]|\\[()\[\],;!]|\\quad|\\text\s?\{\s*(?:and|or)\s*\}|and|or|\*\*"
    r"|\\?[A-Za-z](?:_\{?\w{1,3}\}?)?\s*=)*"
)
BETWEEN = re.compile(r"(?:[\s,;&]|\\[,;!]|\\quad|and|or|\*\*)*")
PHRASE = re.compile(
    r"(?:\b(?:answers?|(?:correct|right)\s(?:option|choice))\b(?:\s{1,3}\([^()\n]{0,40}\))?[*\s]{0,4}"
    r"(?:(?:is|are|equals?|becomes|would\s+be|will\s+be|must\s+be|should\s+be|therefore)\b[\s:]{0,4}|[:=：]"
    r"|(?=\s{0,3}(?:\$|\\\(|\\\[)))"
    r"|(?<=(?m:^)\*\*)(?:final\s)?answer\.\*\*"
    r"|答案(?:应该|应)?[是为為]?[:：]?|\b(?:réponse|respuesta|resposta|risposta|antwort)\b[^\n:.]{0,12}?"
    r"(?:\b(?:est|es|é|è|ist|lautet)\b|:)|\bответ\b\s*[:—-]?)",
    re.IGNORECASE,
)
ANSWER_ABROAD = re.compile(
    r"\b(?:antwort|lösung|réponse|respuesta|opción|resposta|opção|alternativa|risposta|opzione)\b", re.IGNORECASE
)
RIGHT_ABROAD = re.compile(r"\b(?:richtige?|korrekte?|correcte|correcta|correta|corretta|bonne|juste)\b", re.IGNORECASE)
LETTER_ABROAD = re.compile(r"(?!\A[AE]\s(?!(?:é|è|es|est|ist)\b))(?<![\w'’$\\{])([A-J])(?![\w'’])")
"""The letter of a choice, in a sentence that calls an answer right; not the first word, which may be "and" or "the"."""
NOT_ABROAD = re.compile(
    r"[?\d=]|\b(?:nicht|keine?|nie|vielleicht|wenn|ob|pas|jamais|peut-être|si|no|nunca|quizás?|não|talvez|se|non|forse"
    r"|fals\w*|faux|dud\w+|dout\w+|dubit\w*|zweif\w+|bezweif\w+|sag(?:t|en)|behaupte\w*|glaub\w*|disent|dicen|dizem|dicono)\b",
    re.IGNORECASE,
)
"""What such a sentence does not hold: doubt, a denial, what others say, another value."""
NOT_CHOSEN = re.compile(r"\b(?:not|wrong|incorrect|or|eliminate|exclude|rule)\b|n['’]t\b|错|不|\?\W*\Z", re.IGNORECASE)
NOT = re.compile(r"[\s*]{0,4}(?:not\b|n't\b|never\b|unclear|unknown|nicht\b|pas\b|non\b|não\b|не\b|不)", re.IGNORECASE)
LEAD = re.compile(r"[\s:：*_\"'“”`=}]{0,20}")
MATH = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\\n])+?)\$|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)  # a formula does not hold the sign that opens it: so no text is scanned twice
SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*|\")|[。！？\n]")
NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.\\])[-+−]?\$?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)?(?:\s?/\s?\d+)?[½⅓⅔¼¾⅕⅛]?|[½⅓⅔¼¾⅕⅛]|\.\d+)"
    r"(?:\s?\\?%)?"
)
STATES = re.compile(r"[=<>]|\\(?:[lg]eq?|neq?|in|approx)(?![A-Za-z])")
ITEM = re.compile(rf"{MATH.pattern}|{NUMBER.pattern}", re.DOTALL)
CONCLUDES = re.compile(
    r"\b(?:therefore|thus|hence|so|consequently)(?:,|,?\s[^.!?\n]{0,60}\s(?:is|are|equals))?\s*$", re.IGNORECASE
)
AND = re.compile(r"\s*(,|,?\s*\band\b)\s*", re.IGNORECASE)
AFTER = re.compile(
    r"\s*(?:\$\s*)?(?:,\s*)?(?:or|maybe|perhaps|to|through|plus|minus|divided|multiplied|(?:more|less|fewer)\s+than"
    r"|(?:times|over)\s+[\d$])\b",
    re.IGNORECASE,
)
TASK = re.compile(
    r"\s*(?:please\s+|now\s+)?(?:what|how|which|compute|calculate|evaluate|find|determine|simplify|solve|expand"
    r"|factor|express|prove|show|give)\b",
    re.IGNORECASE,
)
CONDITION = re.compile(
    r"((?:\b(?:is|are|equals|was|get|gets|obtain)|=)\s+[^\s.!?]*\d[^\s!?]{0,40})"
    r"\s+(?:when|whenever|if|because|since|as\s+long|modulo)\b[^.!?\n]{0,200}[.!?]?$"
)
"""A result followed by its condition, at the end: "is 5 when divided by 7"."""
BEFORE_REASON = re.compile(
    r"\(?([A-J](?![A-Za-z])|(?i:yes|no|true|false)\b)\)?(?=[,;]?\s+(?:because|since|as|for|not)\b)"
)
"""A choice or yes and no, followed by a reason or by what it is not."""
SINCE = re.compile(
    r"\s?\((?:since|because|as|where|for|note|about|approximately|approx|roughly|≈|i\.e|by|see|if|when|using|from)\b[^()\n]{0,120}\)"
    r"|\s?\((?:obviously|clearly|of\s+course|trivially|easily|as\s+(?:expected|required|claimed))\)",
    re.IGNORECASE,
)
"""A remark that gives a reason, or says that none is needed."""
SAME = re.compile(r"(?<=\d),\s+i\.e\.,?\s+(?=[-−]?\d)")
"""What joins two notations of one value: "5.5, i.e. 11/2"."""
SOLVED = re.compile(
    r"[-−+*/^()\d\s.]*\d([a-z])[-−+*/^()\d\s.]*=[-−+*/^()\d\s.]*,\s+"
    r"(?:[-−+*/^()\d\s.]*\d\1[-−+*/^()\d\s.]*=[-−+*/^()\d\s.]*,\s+)*"
    r"(\1\s*=\s*[-−]?\d+(?:[./]\d+)?)\.?\s*\Z"
)
"""An equation in one letter, further ones in it, and its solution: "3x + 1 = 13, 3x = 12, x = 4"."""
DENIED = re.compile(
    r"\s?\((?:and )?not\b(?!\s+(?:really|sure|certain|quite|yet|checked|verified|final|right|correct)\b)[^()\n]{0,60}\)"
    r"|,\s+(?:and\s+)?not\s+\$?[-−]?\d+(?:[.,/]\d+)*\$?(?=[\s.]*\Z)",
    re.IGNORECASE,
)
"""A remark that says what the answer is not."""
BRACKETED = re.compile(r"(?<=[.!?])\s+\(([A-Z][^()]{0,300})\)[\s.]*\Z")
"""A last sentence in brackets."""
CHECK = re.compile(r"\n[\s*_#>-]{0,8}(?:sanity\s+)?(?:check|verification|verify|proof)\b", re.IGNORECASE)
"""What opens a check of a result; the numbers in it are no new results."""
ABOUT = re.compile(
    r"(?<=[\d})$π])(\$?)\s?\((?:(?:which|that)\s+is\s+|or\s+)?(?:about|approximately|approx\.?|roughly|≈)\s*"
    r"\$?([-−]?\d+(?:\.\d+)?)\$?\)",
    re.IGNORECASE,
)
"""A remark that gives the size of the value before it."""
EVERY = re.compile(
    r"(?<=[$\d)*])\s+(?:(?:on|over|in)\s+(?:its|the)\s+(?:whole|entire)\s+(?:real\s+)?(?:interval|line|domain|axis|plane)"
    r"|for\s+(?:all|any|every|each)(?:\s+(?:positive\s+|non-?negative\s+)?integers?|(?:\s+real|\s+natural)?"
    r"(?:\s+numbers?|\s+reals?)?)\s+\$?[a-z]\$?)(?=[\s.]*\Z)"
)
"""A remark at the end that says of which values the formula or bold word before it holds: of all."""
SOLUTIONS = re.compile(
    r"\s*(?:so|thus|hence|therefore|consequently)\b,?\s+(?:either\s+|the\s+(?:two\s+)?solutions\s+are:?\s+)?"
    r"(((?:\$|\\\()?[A-Za-z])\s*=[^=,;\n]{1,40}(?:(?:,|,?\s+or)\s+(?:\2\s*=|(?=[-−$\d\\(√]))[^=,;\n]{1,40}){0,9}"
    r",?\s+or\s+(?:\2\s*=|(?=[-−$\d\\(√]))[^=,;\n]{1,40})\Z",
    re.IGNORECASE,
)
"""A conclusion that gives all values of one letter: "So x = 3 or x = -8"."""
RATIO = re.compile(
    r"\bratio\b[^.!?\n]*?\b(?:is|equals)\s+\$?(\d+(?:\.\d+)?)\$?\s+to\s+\$?(\d+(?:\.\d+)?)\$?\Z", re.IGNORECASE
)
"""A ratio in words at the end of a sentence."""
YES_NO = re.compile(
    r"[\s*]*(?!no\.\s*\d)(yes|no|true|false)\b(?=[\s*]*(?:[.,:;]|because\b|since\b|as\b|\Z))"
    r"(?![\s*.,:;]*(?:i|let|we|sure|of\s+course|please|and|but|only|if|when|provided|except|depending|this|that)\b)",
    re.IGNORECASE,
)
"""An answer at the beginning: "Yes, because ..."."""
ENDS_YES_NO = re.compile(r"\b(yes|no|true|false)[\s*.!]*\Z", re.IGNORECASE)
STATED = re.compile(
    r"(?P<before>.*?)\b(?:is|are|was|were|be)\s+(?:an?\s+|the\s+)?(?P<bold>\*\*)?"
    r"(?P<said>[A-Za-z][A-Za-z'’-]*(?:(?:,|,?\s+and)?\s+[A-Za-z][A-Za-z'’-]*){0,4}|\d+\s+(?:remainder|R)\s+\d+)"
    r"(?:\*\*)?(?:,?\s+(?:(?P<reason>because|since)|as)\b.*)?\Z",
    re.DOTALL,
)
"""Words that a sentence says of something, at its end or before a reason."""
STATED_BOLD = re.compile(r"\b(?:is|are|was|were|be)\s+(?:an?\s+|the\s+)?\*\*([A-Za-z][^*\n]{0,60})\*\*")
BOLD_JOINED = re.compile(r"\*\*(,|,?\s+and)\s+\*\*")
"""Between bold words of one list: "**A** and **C**"."""
SO = re.compile(r"\b(?:so|thus|hence|therefore|consequently)\b", re.IGNORECASE)
OPENS_CONCLUSION = re.compile(rf"\s*{SO.pattern}", re.IGNORECASE)
UNSTATED = re.compile(
    r"\A\s*(?:[-*•]\s|\d+[.)]\s|(?:all|an?|any|every|recall|note)\b)|n['’]t\b"
    r"|\b(?:not|if|when|whether|either|neither|or|may|might|could|would|can|must|should|wrong|incorrect|false|eliminated?|excluded?"
    r"|suppose|assume|given|called|said|says?|claims?|asked|asks)\b",
    re.IGNORECASE,
)
"""What a sentence that concludes does not hold before the words that it states."""
SUPPOSITION = re.compile(r"\s*(?:suppose|assume|imagine)\b", re.IGNORECASE)
NEXT_PROBLEM = re.compile(
    r"^[#*\s]{0,8}(?:question|problem|q|exercise|user|human|instruction)(?:\s+\d+)?\s*:", re.IGNORECASE | re.MULTILINE
)
ANSWERED = re.compile(r"\\boxed\{|####|\banswer(?:\s+is\b|:)\s*[\d$\\]", re.IGNORECASE)
BOLD = re.compile(r"\*\*\s{0,4}((?:[-+−]|\\?\$)?\d(?!\d{0,2}[.)]\s)[^*\n]{0,200}|\(?[A-J]\)?(?=\*\*[\s.]*\Z))\*\*")
"""A bold value; not the heading "**2. Solve**"."""
ASKED = re.compile(
    r"\b(?:(?:we|i|you)\s+(?:(?:want|need|have|wish|try)|are\s+asked|were\s+asked|must)\s+(?:to\s+)?(?:find|compute|calculate|determine|evaluate"
    r"|solve|show|prove|know)|let\s+(?:me|us)\s+(?:\w+\s+)?(?:restate|rephrase|repeat|reread)"
    r"|(?:problem|question|task)\s+(?:asks|says|wants|reads|states|gives|mentions))\b(?!.*\b(?:so|thus|hence|therefore|gives|get|obtain|which\s+is)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""A sentence that says what is asked and comes to nothing: "We want to find $x + 1$"."""
UNFINISHED = re.compile(
    r"(?:\b(?:which|the|an|of|and|to|that|by|for|with|from|because|since|is|are|we|this|these|then|if)|[=+,(])\s*\Z",
    re.IGNORECASE,
)
"""The end of a response that was cut off within a sentence."""
RESULT = re.compile(r"[=:]|\b(?:get|gets|gives?|yields?|obtain|is|are|to|as)\W{0,4}$")
COMPARED = re.compile(
    r"\b(?:at\s+(?:least|most)|somewhere|anywhere|in\s+the\s+(?:neighbou?rhood|vicinity|region)|on\s+the\s+order|(?:more|less|fewer|greater|larger|smaller)\s+than|up\s+to|close\s+to|near|exceeds?"
    r"|between|half|twice|double|triple|times|plus|minus|roots?|squares?d?(?!\s+(?:units?|\w*met(?:er|re)s?|[ckm]?m|inch(?:es)?|f(?:ee|oo)?t|yards?|miles?)\b)|cubes?d?|factorial|reciprocal|inverse|negative"
    r"|powers?|logarithm|sine|cosine|tangent|percent\s+of|multiples?|divided|over|modulo|mod)\b",
    re.IGNORECASE,
)
REMARK = re.compile(
    r"\s+\((?!mod|or\b|not|maybe|perhaps|possibly|wrong|incorrect)[a-z][a-z ,'-]{2,60}\)$",
    re.IGNORECASE,
)
ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
