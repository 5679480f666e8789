"""temporary"""
import re
from llmrl.verifiers.verdict import Verdict
def verifier(name):
    def grade(rs, gs):
        out=[]
        for r,g in zip(rs,gs):
            i=r.rfind("\\boxed{")
            if i<0: out.append(Verdict(0.0,"no_answer")); continue
            d=0
            for j in range(i+6,len(r)):
                d+= (r[j]=="{")-(r[j]=="}")
                if d==0: break
            a=r[i+7:j]; out.append(Verdict(float(a==g),"correct" if a==g else "wrong",extracted=a))
        return out
    return grade
