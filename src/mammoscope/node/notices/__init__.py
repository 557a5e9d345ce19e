"""Telling people of what needs them: the audit trail's lines come in, mails and posts to a webhook go out.

No notice names a patient: studies and objects are named by their UIDs.
"""
