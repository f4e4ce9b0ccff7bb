"""SQLAlchemy over psycopg2 and asyncpg's dialects: a pool, an ORM session, reflection."""
from sqlalchemy import Column, Integer, String, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, declarative_base

from cases import DATABASE, HOST, PASSWORD, PORT, USER, case, run, table

engine = create_engine(URL.create("postgresql+psycopg2", USER, PASSWORD, HOST, PORT, DATABASE),
                       # The connections of a pool are sessions of their own; what one wrote the next one must see.
                       connect_args={"sslmode": "disable", "options": "-c walgate.consistency=strong"},
                       pool_size=3, pool_pre_ping=True, future=True)
Base = declarative_base()


class Item(Base):
    __tablename__ = table("sqlalchemy")
    id = Column(Integer, primary_key=True)
    name = Column(String(40), unique=True)


@case
def create():
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    return [c["name"] for c in inspect(engine).get_columns(Item.__tablename__)]


@case
def unit_of_work():
    with Session(engine) as session:
        session.add_all(Item(name=f"item {i}") for i in range(100))
        session.commit()
        item = session.scalars(select(Item).where(Item.name == "item 7")).one()
        item.name = "renamed"
        session.commit()
        return session.scalar(select(func.count()).select_from(Item)), session.get(Item, item.id).name


@case
def nested():
    with Session(engine) as session:
        session.add(Item(name="outer"))
        try:
            with session.begin_nested():
                session.add(Item(name="renamed"))
                session.flush()
        except IntegrityError as error:
            code = error.orig.pgcode
        session.commit()
        return code, session.scalar(select(func.count()).select_from(Item).where(Item.name == "outer"))


@case
def streaming():
    with engine.connect().execution_options(stream_results=True, yield_per=10) as connection:
        return sum(1 for _ in connection.execute(select(Item)))


@case
def isolation_levels():
    seen = []
    for level in ("AUTOCOMMIT", "SERIALIZABLE", "READ COMMITTED"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            seen.append(connection.execute(text("show transaction_isolation")).scalar())
    return seen


@case
def read_only():
    with engine.connect().execution_options(postgresql_readonly=True) as connection:
        return connection.execute(text("show transaction_read_only")).scalar(), connection.execute(select(func.count()).select_from(Item)).scalar()


@case
def pool_pre_ping():
    values = []
    for i in range(20):
        with engine.connect() as connection:
            values.append(connection.execute(text("select :i"), {"i": i}).scalar())
    return sum(values), engine.pool.checkedout()


run()
engine.dispose()
