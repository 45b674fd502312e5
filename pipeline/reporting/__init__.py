"""The report: from the tables of an experiment to estimates, figures and pages.

`results` holds the tables; `outcomes`, `contrasts` and `mechanism` compute `estimates`; `templates/` say what the pages
show, by `tables`, `pictures` and `figures`; `report` and `page` write them; `prose` puts numbers into texts.
"""
