"""The reproduction: what the book's chapters, scripts and tests share beside `lddr`.

- `records`: the recorded runs; `methods`: gathered by method; `stats`: compared; `tables`: shown; `claims`: judged;
  `report`: put into the pages
- `grid`: every run and its command; `runs`: list and make them (`python -m study`); `minutes`: how long they take
- `chapter`: the parameters of a notebook; `chapter_run`: the record that it leaves
- `table1`, `overview`, `liver`, `ablation`, `figure1`, `figure2_drawing`, `figure2_reading`: what chapters 09-12 show
- `classical`, `cost`, `figure2`: runs that are no training; `picture`, `ship_weights`: what is made from them
"""
