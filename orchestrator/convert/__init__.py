"""Files that people already have, made into service files: Azure's .csdef and .cscfg, unattend.xml, cloud-init's.

Pure: texts go in, a text and a report come out. Whatever is wrong is told with line and column, all at once.
"""
