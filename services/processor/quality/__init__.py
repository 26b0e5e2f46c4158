"""Quality checks on compiled records: what the standard asks (rules.py), and what cannot be true (consistency.py).

What is judged is what will be published: compiled records, not the collected ones. That is what users get, whatever
came of merging; each contracting process is judged once, not once a release; and it is one pass over the smaller of the
two stores. Only ids are judged as collected, by the process task, as merging removes the evidence: objects and
releases with the same id become one.

A record is decoded once and walked once (walk.py). The walk judges each field by itself and lists the objects that
further checks compare: periods, values, references. So what an extension adds is judged like the core.
"""
