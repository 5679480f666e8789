"""Signs before an answer that it does not count; a test runs the example of each row."""

from __future__ import annotations

from llmrl.verifiers.math.signs import ABOUT, FAULT, OPENS, SAYS, Sign

IN_CLAUSE = (
    Sign(rf"\b(?:not|never|neither|nor|hardly)\b{ABOUT}{OPENS}", r"The answer is not \boxed{5}."),
    Sign(rf"n['’]t{ABOUT}{OPENS}", r"It isn't \boxed{5}."),
    Sign(rf"(?:\b(?:nicht|pas|não|не)|不是){OPENS}", r"Die Antwort ist nicht \boxed{5}."),
    Sign(rf"\b(?:rather\s+than|far\s+from){ABOUT}{OPENS}", r"It is far from \boxed{5}"),
    Sign(rf"\b(?:anything|everything|all)\s+but{ABOUT}{OPENS}", r"It is anything but \boxed{5}."),
    Sign(rf"\bno\s+way{ABOUT}{OPENS}", r"No way it's \boxed{5}."),
    Sign(
        rf"\b(?:can(?:not|['’]t)|could(?:\s+not|n['’]t))\s+(?:possibly\s+)?(?:be|equal){ABOUT}{OPENS}",
        r"The sum cannot be \boxed{5}.",
    ),
    Sign(rf"\b(?:impossible|unlikely|doubt(?:s|ed|ful)?){ABOUT}{OPENS}", r"I doubt that it is \boxed{5}."),
    Sign(
        r"\b(?:reject(?:s|ed|ing)?|discard(?:s|ed|ing)?|exclud(?:e|es|ed|ing)|dismiss(?:es|ed|ing)?|rul(?:e|es|ed|ing)\s+out"
        rf"|den(?:y|ies|ied)|refut(?:e|es|ed)|avoid|ignor(?:e|es|ing)|(?:refuse|decline|hesitate|reluctant)\s+to\s+\w+){ABOUT}{OPENS}",
        r"We reject the root \boxed{5}.",
    ),
    Sign(
        rf"\b(?:suppos(?:e|ing)|assum(?:e|ing)|imagine|pretend|if\s+only|(?:suppose|assume)\s+that\s+(?:\w+\s+){{1,3}}|try|trying|tried){ABOUT}{OPENS}",
        r"Suppose it is \boxed{5}.",
    ),
    Sign(rf"\b{FAULT}{OPENS}", r"The wrong \boxed{5}"),
    Sign(
        r"\b(?:wrong|incorrect|false|mistake|mistaken|not\s+true|misleading)\s+(?:to|that|would\s+be|answer|result|value|is)\b"
        r"(?!\s+is\s+avoided)[^.!?\n]*$",
        r"It is a mistake to write that we have \boxed{5}.",
    ),
    Sign(
        r"\b(?:wrongly|incorrectly|mistakenly|erroneously|naively|falsely|carelessly)\b[^.!?\n]*$",
        r"Carelessly we obtain \boxed{5}.",
    ),
    Sign(
        r"\b(?:trap|pitfall|fallacy|tempt(?:ed|ing)|temptation|naive|distractor|decoy|blunder|misconception)\b[^.!?\n]*$",
        r"It is tempting to write \boxed{5}.",
    ),
    Sign(
        r"\bwould\s+have\s+(?:been|given|got|gotten|obtained)\b[^.!?\n]*$",
        r"With two dice it would have been \boxed{5}.",
    ),
    Sign(r"\bused\s+to\s+be\b[^.!?\n]*$", r"It used to be \boxed{5}."),
    Sign(
        r"\b(?:first|initial|initially|original|originally|earlier|previous|previously|old)\s+(?:\w+\s+)?"
        r"(?:guess|answer|attempt|instinct|thought|estimate|impression|reaction|got|wrote|said)\b[^.!?\n]*$",
        r"My first guess is \boxed{5}.",
    ),
    Sign(
        r"\bif\s+(?:i\s+(?:had|have)\s+to\s+guess|(?:the\s+|our\s+)?(?:\w+\s+)?answer\s+(?:is|were|was|had\s+been)[\s:$(]*$)",
        r"If the answer were \boxed{5}, we would be done.",
    ),
    Sign(
        r"\b(?:a|my)\s+(?:wild\s+|random\s+|best\s+)?guess(?:\s+(?:is|would\s+be|of|at))?[\s:$(]*$|\bi(?:['’]d|\s+would|\s+can\s+only)\s+guess"
        r"(?:\s+(?:it|it['’]s|is|that|the|answer)){0,4}[\s:$(]*$",
        r"I'd guess \boxed{5}",
    ),
    Sign(
        r"\b(?:it['’]s|is|be)\s+either[\s:$(]*$|\b(?:maybe|perhaps|possibly|might\s+be|may\s+be|could\s+be)\s*[:$(]*$",
        r"Maybe \boxed{5}",
    ),
)
"""Looked for in the clause before the answer: "it is not 5, so it is 18" denies 5 alone."""

ATTRIBUTED = (
    Sign(
        r"\b(?:students?|(?:many|some|most)(?:\s+(?:people|readers|solvers))?|people|someone|somebody|every(?:one|body)|any(?:one|body)|(?:answer\s+)?key"
        r"|textbook|book|classmate|friend|intuition|others|you|one\s+(?:might|may|could|would)|(?:he|she|they))\b\s+(?:(?!who\b|that\b)\w+\s+){0,2}?"
        rf"(?:be\s+led|answer|{SAYS})\b[^.!?\n]*$",
        r"Here many students write \boxed{5}.",
    ),
    Sign(
        rf"(?-i:(?:^|[.!?:]\s+|\n)(?!(?:The|This|That|It|We|I|Which|And|Final|\w+ing)\b)[A-Z][a-z]+)\s+(?:{SAYS}|got|gets)\b"
        r"(?:\s+(?:that|the|his|her|answer|is|it|equals|down)){0,6}[\s:$,\"“]*$",
        r"Bob claims that it is \boxed{5}.",
    ),
    Sign(
        r"\b(?:calculator|computer|software|program|tutor|teacher|friend|forum|internet|impostor|solver)\s+(?:\w+\s+)?"
        rf"(?:{SAYS})\b[^.!?\n]*$",
        r"My calculator says \boxed{5}.",
    ),
    Sign(
        r"\b(?:the|a|an)\s+(?:(?:last|previous|next|other|careless|hasty)\s+)?(?!(?:problem|question|statement|answer|theorem|table|text|rule|condition|definition)\b)\w+\s+"
        r"(?:would\s+)?(?:says?|said|claims?|claimed|thinks?|thought|believe[sd]?|writes?|wrote|answers|answered|guess(?:es|ed)?)\s"
        r"(?:\w+\s+){0,3}[\s:$(]*$",
        r"The previous user answered \boxed{5}.",
    ),
)
"""Looked for in the sentence before the answer: somebody else says it, unless a noun follows ("she wrote 5 pages")."""

WRONG_WAY = (
    Sign(r"\b(?:by\s+mistake|in\s+error|careless|hasty|sloppy)\b[^.!?\n]*$", r"By mistake one finds \boxed{5}."),
    Sign(
        r"['’]s\s+(?:\w+\s+)?(?:answer|guess|solution|result|attempt)\b[^.!?\n]*$", r"Ann's answer was then \boxed{5}."
    ),
    Sign(r"\bnaive(?:ly)?\b[^.!?\n]*$", r"The naive count, we see, gives \boxed{5}."),
    Sign(
        r"\b(?:wrong|false|incorrect|flawed|mistaken)\s+(?:way|method|approach|premise|assumption|reading|formula|idea|argument"
        r"|reasoning|computation|calculation|solution)\b[^.!?\n]*$",
        r"By the wrong formula one obtains, say, \boxed{5}.",
    ),
    Sign(r"\bno\s+(?:way|reason|chance)\s+(?:to|that|of)\b[^.!?\n]*$", r"There is no reason to claim \boxed{5}."),
    Sign(
        r"\b(?:must|should|can|could|do|may|ought)(?:\s*not|n['’]t)\s+(?:conclude|infer|claim|say|answer|believe|deduce)\b[^.!?\n]*$",
        r"We must not conclude, as before, \boxed{5}.",
    ),
    Sign(r"\b(?:nobody|no\s+one|hardly\s+any(?:one|body))\b[^.!?\n]*$", r"Nobody in the class gets \boxed{5}."),
    Sign(r"\bmyth\b[^.!?\n]*$", r"It is a myth that we get \boxed{5}."),
    Sign(
        r"\b(?:do|did|does|should|must)(?:\s+not|n['’]t)\s+(?:grade|count|trust|accept|mark)\b[^.!?\n]*$",
        r"Do not grade this as final: \boxed{5}",
    ),
    Sign(
        r"\b(?:surprised|wary|suspicious|sceptical|skeptical)\b[^.!?\n]*$", r"I am suspicious of the value \boxed{5}."
    ),
    Sign(
        r"\bif\s+(?:you|one|we)\s+(?:forget|overlook|misread)s?\b[^.!?\n]*$",
        r"If we forget the sign, we get \boxed{5}.",
    ),
    Sign(r"\b(?:for|with|using)\s+the\s+(?:wrong|incorrect)\b[^.!?\n]*$", r"Using the wrong sign gives \boxed{5}."),
    Sign(r"\b(?:do|must|should)(?:\s*not|n['’]t)\s+\w+[\s:$(]*$", r"Don't write \boxed{5}."),
    Sign(
        r"\b(?:assuming|supposing)\b[^.!?\n]*\bwould\b[^.!?\n]*$",
        r"Assuming a fair coin, the answer would be \boxed{5}.",
    ),
    Sign(
        r"\b(?:if|had)\b[^.!?\n]{1,120}?\b(?:were(?!\s+to\b)|had|instead)\b[^.!?\n]{0,120}?\bwould\b[^.!?\n]*$|^\s*had\s+[^.!?\n]{1,120}\bwould\b[^.!?\n]*$",
        r"If the coin were fair, the answer would be \boxed{5}.",
    ),
    Sign(
        r"\b(?:an?(?:other)?|the)\s+(?:alternative|different|similar|simpler|easier|other|related|modified|special)\s+(?:problem|question|case|version|variant|setting)\b[^.!?\n]*$",
        r"In a similar problem, the total is \boxed{5}.",
    ),
    Sign(
        r"\b(?:like|such\s+as|e\.g\.|for\s+example|for\s+instance)[\s:,$(]*$|^\s*example\b[^.!?\n]*$",
        r"Write it in a box, like \boxed{5}.",
    ),
    Sign(r"\b(?:for|by)\s+contradiction\b[^.!?\n]*$", r"Suppose, for contradiction, that the answer is \boxed{5}."),
)
"""Looked for in the whole sentence before the answer: its own results ("gives", "we get") belong to its way."""

BEFORE_ANNOUNCEMENT = (
    Sign(r"\bguess(?:ing)?,?\s+(?:that\s+)?(?:(?:the|our|final|correct)\s+){0,3}$", r"Just guessing, the answer is 5."),
    Sign(
        r"\b(?:if|suppose|assume|assuming|pretend|whether|why|how\s+could|could)\s+(?:that\s+)?(?:(?:the|our|final|correct)\s+){0,3}$",
        r"I wonder whether the answer is 5.",
    ),
)
"""Looked for right before words that announce an answer."""

ALTERNATIVE = (
    Sign(r"\bi\s+(?:need|want|have|spent|took|used)\b[^.!?\n]*\s*\$?$", r"I need 5"),
    Sign(r"(?:\b(?:or|either|ou)\b|或|±|\\pm)\s*\$?$", r"6 or 5"),
    Sign(r"\b(?:at\s+most|roughly|call\s+it)\s*\$?$", r"We have at most 5"),
    Sign(
        r"\b(?:because|since|add(?:ing)?|subtract(?:ing)?|(?:multiply|divide)(?:\s+\w+)?\s+by)\s*\$?$",
        r"We then subtract 5",
    ),
    Sign(r"\bi\s+guess(?:\s+(?:it|it['’]s|is|that|the|answer)){0,4}\s*$", r"I guess it is 5"),
    Sign(r"\b(?:times|plus|minus|over|(?:divided|multiplied)\s+by|out\s+of)\s*\$?$", r"The total is six plus 5"),
    Sign(
        r"\b(?:exceeds?|between|(?:more|less|fewer|greater|larger|smaller)\s+than|between\s+\S{1,10}\s+and"
        r"|from\s+\S{1,10}\s+to|\d[\d.,$%]*\s+to)\s*\$?$",
        r"The total exceeds 5",
    ),
)
"""Looked for right before a formula or number that no word announces: it is one of several, or a part of another."""

GIVES_UP = (
    Sign(
        r"\b(?:can(?:not|['’]t)|unable\s+to|not\s+able\s+to|could(?:\s+not|n['’]t)|impossible\s+to|do\s+not|don['’]t)\s+"
        r"(?:\w+\s+)?(?:solve|answer|help|assist|know|find|determine|continue|finish|understand|complete)\b",
        "I cannot solve this. In step 2 we had: 5",
    ),
    Sign(
        r"\b(?:give\s+up|unsolvable|too\s+(?:hard|difficult)|out\s+of\s+time|time\s+is\s+up|(?:did\s+not|didn['’]t|not)\s+finish(?:ed)?)\b",
        "I give up. In step 2 we had: 5",
    ),
    Sign(
        r"\b(?:have\s+not|haven['’]t)\s+(?:yet\s+)?(?:verified|checked|finished|confirmed)\b|\bbefore\s+finishing\b",
        "I have not verified the last candidate: 5",
    ),
    Sign(
        r"\b(?:I|we)\s+(?:can(?:not|['’]t)|could(?:\s+not|n['’]t)|(?:am|are|was|were)\s+(?:unable|not\s+able)\s+to)\s+"
        r"(?:arrive|compute|evaluate|figure|get|obtain|reach|resolve|settle|work)\b"
        r"(?![^!?\n]{0,120}\b(?:so|but|thus|hence|therefore|more|fewer|less|further|better|another|larger|smaller)\b)"
        r"(?:[^.!?\n]|\.\d){0,120}[.!\s]*\Z",
        "I could not work this out within 5 minutes.",
    ),
    Sign(
        r"\b(?:no\s+idea|hard\s+to\s+say|is\s+(?:just\s+|only\s+)?a\s+guess|answer\s+is\s+(?:unknown|unclear|undetermined)|not\s+sure"
        r"|unsure|at\s+random|random\s+guess|by\s+guessing|just\s+guess(?:ing)?)\b",
        "I picked a number at random: 5",
    ),
    Sign(
        r"\b(?:not\s+true|false|wrong|incorrect)\s+(?:that|to\s+\w+)\s[^\n.!?]{0,40}\banswer\b",
        "It is false that the answer is unique. We have 5",
    ),
)
"""Looked for anywhere in a response that announces no answer."""
