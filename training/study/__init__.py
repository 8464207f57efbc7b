"""The study: does a model do better, by a protocol that is fixed beforehand?"""
