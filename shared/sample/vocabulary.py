"""The words of the sample publication: who buys, who sells, what, where and why.

All of it is invented but for the codes: CPV's for what is bought, UN/CEFACT's for units, ISO 4217's for currencies.
Bowerland is a republic of many languages, so names come in many scripts, as they do in real publications.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Organization:
    """A buyer or a supplier."""

    id: str
    name: str
    street: str
    locality: str
    region: str
    postal_code: str
    contact: str
    scale: str = ""
    """Size of a company, as in the OCDS open codelist ``partyScale``; empty for public bodies."""
    trades: frozenset[str] = frozenset()
    """What it buys or sells. Empty: everything, as a town does (for itself) and a general contractor."""

    def deals_in(self, trade: str) -> bool:
        """Return whether it buys or sells this."""
        return not self.trades or trade in self.trades

    @property
    def domain(self) -> str:
        """Host name for addresses, under the reserved top-level domain ``example``."""
        return f"{self.id.lower()}.example"


@dataclass(frozen=True)
class Item:
    """One thing that can be bought: CPV code and its name, what is meant, unit (UN/CEFACT code and name).

    ``price`` is the range of the unit price in whole currency units, ``quantity`` the range of the quantity.
    """

    code: str
    classification: str
    description: str
    unit: tuple[str, str]
    price: tuple[int, int]
    quantity: tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """A kind of purchase: its titles (``{place}`` is filled in), reasons, items, and its title in other languages."""

    trade: str
    category: str
    titles: tuple[str, ...]
    reasons: tuple[str, ...]
    items: tuple[Item, ...]
    translations: tuple[tuple[str, str], ...] = ()


PIECE = ("H87", "piece")
KILOGRAM = ("KGM", "kilogram")
LITRE = ("LTR", "litre")
METRE = ("MTR", "metre")
SQUARE_METRE = ("MTK", "square metre")
HOUR = ("HUR", "hour")
DAY = ("DAY", "day")
MONTH = ("MON", "month")
TONNE = ("TNE", "tonne (metric ton)")
SET = ("SET", "set")

PLACES: tuple[str, ...] = (
    "Satinhaven",
    "Port Regent",
    "Catkin Falls",
    "Archbold Springs",
    "Villa del Pergolero",
    "Goldfold",
    "Saint-Ramure",
    "Grauvogelstein",
    "Great Avenue",
    "Tooth-bill Ridge",
    "Шалашево",
    "Macgregor's Rest",
    "Ōkākāwai",
    "Lake Maypole",
    "Fawnbreast Plains",
    "園丁灣",
    "Şahinköy",
    "Bay of Blue Bottles",
)

BUYERS: tuple[Organization, ...] = (
    Organization(
        "G-001",
        "Ministry of Health",
        "1 Bower Square",
        "Satinhaven",
        "Capital",
        "1000",
        "Aoife Ní Bhriain",
        trades=frozenset({"health", "cleaning", "vehicles"}),
    ),
    Organization(
        "G-002",
        "Ministry of Education and Culture",
        "4 Maypole Walk",
        "Satinhaven",
        "Capital",
        "1002",
        "Kwame Asante",
        trades=frozenset({"computers", "building", "food", "print", "software"}),
    ),
    Organization(
        "G-003",
        "Department of Roads and Bridges",
        "Depot 7, Ring Road",
        "Port Regent",
        "Coast",
        "2210",
        "Jürgen Weiß",
        trades=frozenset({"roads", "engineering", "vehicles"}),
    ),
    Organization(
        "G-004",
        "Municipalidad de Villa del Pergolero",
        "Avenida de los Pájaros 7",
        "Villa del Pergolero",
        "South",
        "4100",
        "João Simões",
    ),
    Organization("G-005", "Ville de Saint-Ramure", "18, rue du Bocage", "Saint-Ramure", "West", "5200", "Renée Dœuff"),
    Organization(
        "G-006", "Шалашевский городской совет", "ул. Веточная, 3", "Шалашево", "North", "6014", "Олена Шевчук"
    ),
    Organization("G-007", "園丁灣市政府", "藍瓶路 88 號", "園丁灣", "East", "7300", "陳美玲"),
    Organization(
        "G-008",
        "Bowerland Water Authority",
        "Weir House",
        "Lake Maypole",
        "Lakes",
        "3050",
        "Mele Tupou",
        trades=frozenset({"water", "energy", "engineering"}),
    ),
    Organization(
        "G-009",
        "National Fire and Rescue Service",
        "2 Ember Court",
        "Goldfold",
        "Centre",
        "1810",
        "Søren Ødegård",
        trades=frozenset({"safety", "vehicles", "building"}),
    ),
    Organization(
        "G-010",
        "Universität Grauvogelstein",
        "Laubengasse 5",
        "Grauvogelstein",
        "Centre",
        "1900",
        "Zsófia Kovács",
        trades=frozenset({"computers", "software", "print", "health", "energy"}),
    ),
    Organization(
        "G-011",
        "Public Transport Agency",
        "Terminal 3",
        "Port Regent",
        "Coast",
        "2204",
        "Priya Raghavan",
        trades=frozenset({"vehicles", "roads", "energy"}),
    ),
    Organization(
        "G-012", "Ōkākāwai Regional Council", "9 Kererū Terrace", "Ōkākāwai", "Islands", "8800", "Tānia Rērangi"
    ),
    Organization("G-013", "Şahinköy Belediyesi", "Çardak Sokağı 21", "Şahinköy", "North", "6120", "İpek Yılmaz"),
    Organization(
        "G-014",
        "National Procurement Office",
        "10 Twig Street",
        "Satinhaven",
        "Capital",
        "1001",
        "Ifeoma Bright",
        trades=frozenset({"computers", "software", "cleaning", "print", "energy"}),
    ),
)

SUPPLIERS: tuple[Organization, ...] = (
    Organization(
        "C-1001", "Satin & Straw Ltd.", "12 Satin Street", "Satinhaven", "Capital", "1004", "Grace Oduya", "sme"
    ),
    Organization(
        "C-1002",
        "Ñandú Construcciones S.A.",
        "Calle Ocho 214",
        "Port Regent",
        "Coast",
        "2201",
        "Íñigo Peña",
        "large",
        trades=frozenset({"roads", "building", "water", "energy", "engineering"}),
    ),
    Organization(
        "C-1003",
        "Éditions de l'Œuvre Bleue SARL",
        "3, quai Ramure",
        "Saint-Ramure",
        "West",
        "5201",
        "Maëlle Roy",
        "micro",
        trades=frozenset({"print"}),
    ),
    Organization(
        "C-1004",
        "ТОВ «Гілля Буд»",
        "вул. Гілляста, 44",
        "Шалашево",
        "North",
        "6010",
        "Тарас Бондар",
        "large",
        trades=frozenset({"roads", "building", "water"}),
    ),
    Organization(
        "C-1005",
        "園丁鳥建設株式会社",
        "青瓶町 2-6-1",
        "園丁灣",
        "East",
        "7301",
        "佐藤 結衣",
        "large",
        trades=frozenset({"roads", "building", "water", "energy"}),
    ),
    Organization(
        "C-1006",
        "شركة التعريشة للمقاولات",
        "شارع الأغصان ١٢",
        "Goldfold",
        "Centre",
        "1811",
        "ليلى حداد",
        "sme",
        trades=frozenset({"roads", "building", "water", "green"}),
    ),
    Organization("C-1007", "סוכת ענף בע״מ", "רחוב הקש 9", "Satinhaven", "Capital", "1007", "נועה לוי", "sme"),
    Organization(
        "C-1008",
        "Strauß & Söhne Ingenieure GmbH",
        "Am Bogen 17",
        "Grauvogelstein",
        "Centre",
        "1901",
        "Uwe Groß",
        "sme",
        trades=frozenset({"engineering", "roads", "building", "water"}),
    ),
    Organization(
        "C-1009",
        "Αφοί Κληματαριά Ο.Ε.",
        "Οδός Άμπελου 5",
        "Lake Maypole",
        "Lakes",
        "3051",
        "Παναγιώτα Λύρα",
        "micro",
        trades=frozenset({"green", "food"}),
    ),
    Organization(
        "C-1010", "Łuk i Gałąź sp. z o.o.", "ul. Źdźbła 2", "Great Avenue", "Centre", "1830", "Paweł Żak", "sme"
    ),
    Organization(
        "C-1011",
        "Maypole Medical Supplies plc",
        "Unit 5, Fen Park",
        "Goldfold",
        "Centre",
        "1812",
        "Ravi Iyer",
        "large",
        trades=frozenset({"health"}),
    ),
    Organization(
        "C-1012",
        "Catkin Cleaning Cooperative",
        "77 Mill Road",
        "Catkin Falls",
        "Coast",
        "2290",
        "Joy Mbeki",
        "sme",
        trades=frozenset({"cleaning", "green"}),
    ),
    Organization(
        "C-1013", "Þorskur og Greinar hf.", "Hafnargata 1", "Port Regent", "Coast", "2202", "Guðrún Jónsdóttir", "sme"
    ),
    Organization(
        "C-1014", "Công ty TNHH Cành Xanh", "Ngõ 5, Phố Rơm", "Satinhaven", "Capital", "1009", "Nguyễn Thị Mai", "sme"
    ),
    Organization(
        "C-1015",
        "Regent Diagnostics AG",
        "Kontorhaus 3",
        "Port Regent",
        "Coast",
        "2207",
        "Anneliese Vogt",
        "large",
        trades=frozenset({"health"}),
    ),
    Organization(
        "C-1016",
        "ბუდე და ტოტი შპს",
        "ვაზის ქუჩა 14",
        "Tooth-bill Ridge",
        "North",
        "6200",
        "ნინო გელაშვილი",
        "micro",
        trades=frozenset({"green", "building"}),
    ),
    Organization(
        "C-1017",
        "हरित कुंज प्राइवेट लिमिटेड",
        "7 तिनका मार्ग",
        "Fawnbreast Plains",
        "South",
        "4180",
        "प्रिया शर्मा",
        "sme",
        trades=frozenset({"green", "cleaning"}),
    ),
    Organization(
        "C-1018",
        "บริษัท รังนก จำกัด",
        "99 ถนนกิ่งไม้",
        "Bay of Blue Bottles",
        "Islands",
        "8810",
        "สมชาย ใจดี",
        "sme",
        trades=frozenset({"food", "cleaning"}),
    ),
    Organization(
        "C-1019",
        "Avenue Software Guild",
        "Loft 2, Old Ropeworks",
        "Satinhaven",
        "Capital",
        "1003",
        "Noor de Vries",
        "sme",
        trades=frozenset({"software", "computers"}),
    ),
    Organization(
        "C-1020",
        "Blue Bottle Logistics",
        "Pier 9",
        "Bay of Blue Bottles",
        "Islands",
        "8811",
        "Sione Fifita",
        "large",
        trades=frozenset({"vehicles", "food", "health", "computers"}),
    ),
    Organization(
        "C-1021",
        "Ferme des Trois Nids GAEC",
        "Lieu-dit Les Nids",
        "Saint-Ramure",
        "West",
        "5230",
        "Benoît Lacroix",
        "micro",
        trades=frozenset({"food"}),
    ),
    Organization(
        "C-1022",
        "Golden Fold Energía Solar, S.L.",
        "Polígono Oeste 31",
        "Villa del Pergolero",
        "South",
        "4102",
        "Nuria Gil",
        "sme",
        trades=frozenset({"energy"}),
    ),
    Organization(
        "C-1023",
        "Ridge Fire Engineering Ltd.",
        "41 Anvil Lane",
        "Tooth-bill Ridge",
        "North",
        "6201",
        "Callum McBride",
        "sme",
        trades=frozenset({"safety"}),
    ),
    Organization(
        "C-1024",
        "Çalı Kuşu Tekstil A.Ş.",
        "İplik Caddesi 8",
        "Şahinköy",
        "North",
        "6121",
        "Gökçe Işık",
        "large",
        trades=frozenset({"safety"}),
    ),
    Organization(
        "C-1025",
        "Kākāriki Civil Works",
        "Yard 2, Ferry Road",
        "Ōkākāwai",
        "Islands",
        "8801",
        "Hēmi Parata",
        "large",
        trades=frozenset({"roads", "building", "water", "green", "energy"}),
    ),
    Organization(
        "C-1026",
        "O'Branagh, Twigg & Partners",
        "The Old Mill",
        "Archbold Springs",
        "West",
        "5300",
        "Orla O'Branagh",
        "sme",
        trades=frozenset({"engineering", "software"}),
    ),
    Organization(
        "C-1027",
        "Archbold Pumps and Pipes",
        "Spring Works",
        "Archbold Springs",
        "West",
        "5301",
        "Dewi Llŷr",
        "sme",
        trades=frozenset({"water"}),
    ),
    Organization(
        "C-1028",
        "Plains Dairy & Bakery",
        "2 Silo Road",
        "Fawnbreast Plains",
        "South",
        "4181",
        "Marta Ferreira",
        "micro",
        trades=frozenset({"food"}),
    ),
)

SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "computers",
        "goods",
        (
            "Laptops and screens for schools in {place}",
            "Computer equipment for the {place} district office",
            "Renewal of workstations, {place} campus",
        ),
        (
            "Most of the present machines are more than seven years old and no longer receive security updates.",
            "Each classroom gets one charging trolley; teachers keep a machine of their own.",
            "The number of pupils per device falls from nine to three.",
        ),
        (
            Item(
                "30213100",
                "Portable computers",
                "Laptop, 14 inch, 16 GB of memory, three years on-site repair",
                PIECE,
                (540, 890),
                (20, 400),
            ),
            Item("30231300", "Display screens", "Screen, 27 inch, height-adjustable", PIECE, (140, 260), (10, 300)),
            Item("30232110", "Laser printers", "Colour laser printer, duplex", PIECE, (310, 720), (2, 40)),
            Item("32420000", "Network equipment", "24-port switch, managed", PIECE, (260, 640), (2, 60)),
        ),
        (
            ("ru", "Ноутбуки и мониторы для школ"),
            ("fr", "Ordinateurs portables et écrans pour les écoles"),
            ("zh", "學校用筆記型電腦與顯示器"),
        ),
    ),
    Subject(
        "health",
        "goods",
        (
            "Vaccines and consumables for the {place} clinics",
            "Medical supplies, {place} regional hospital",
            "Framework for diagnostic material, {place}",
        ),
        (
            "The cold chain must be recorded from the factory to the ward; loggers are read on arrival.",
            "Stocks cover four months of normal use and six weeks of an outbreak.",
            "Deliveries are accepted on working days only, and never split across two batches.",
        ),
        (
            Item(
                "33651600",
                "Vaccines",
                "Measles and rubella vaccine, ten-dose vial, 2–8 °C",
                PIECE,
                (6, 14),
                (500, 9000),
            ),
            Item("33141310", "Syringes", "Auto-disable syringe, 0.5 ml", PIECE, (1, 2), (2000, 60000)),
            Item("33141420", "Surgical gloves", "Nitrile gloves, size M, box of 100", PIECE, (5, 11), (200, 6000)),
            Item(
                "33124100",
                "Diagnostic devices",
                "Portable ultrasound scanner with two probes",
                PIECE,
                (7800, 16400),
                (1, 9),
            ),
            Item("33157400", "Medical breathing devices", "Oxygen concentrator, 10 l/min", PIECE, (980, 1750), (4, 60)),
        ),
        (
            ("fr", "Vaccins et consommables médicaux"),
            ("ar", "لقاحات ومستهلكات طبية"),
        ),
    ),
    Subject(
        "roads",
        "works",
        (
            "Resurfacing of the road from {place} to the coast",
            "Repair of bridge B-17 near {place}",
            "Road safety works, {place} town centre",
        ),
        (
            "The wearing course has lost its grip and the last survey counted 214 potholes.",
            "One lane stays open at all times; night work is limited to eleven nights.",
            "The load limit of 12 t is lifted once the deck has been strengthened.",
        ),
        (
            Item(
                "45233220",
                "Surface work for roads",
                "Milling and new asphalt wearing course, 40 mm",
                SQUARE_METRE,
                (18, 34),
                (1500, 42000),
            ),
            Item(
                "45221110",
                "Bridge construction work",
                "Strengthening of the deck with carbon fibre strips",
                METRE,
                (420, 910),
                (40, 320),
            ),
            Item("44113620", "Asphalt", "Asphalt AC 11, delivered hot", TONNE, (82, 128), (300, 5200)),
            Item("34928000", "Road furniture", "Steel guard rail, galvanized", METRE, (64, 118), (100, 4000)),
        ),
        (
            ("es", "Repavimentación de carretera y obras de seguridad vial"),
            ("ru", "Ремонт дорожного покрытия"),
        ),
    ),
    Subject(
        "building",
        "works",
        (
            "New primary school in {place}",
            "Roof and wiring of the {place} secondary school",
            "Extension of the {place} kindergarten by two groups",
        ),
        (
            "The school runs in two shifts since the quarter was built; four classrooms end that.",
            "Rainwater has reached the wiring twice, so both are replaced together.",
            "Noisy work takes place in the holidays.",
        ),
        (
            Item(
                "45214210",
                "Primary school construction work",
                "Classroom wing, timber frame on concrete slab",
                SQUARE_METRE,
                (960, 1480),
                (240, 1900),
            ),
            Item(
                "45261210",
                "Roof-covering work",
                "Standing-seam metal roof with insulation",
                SQUARE_METRE,
                (88, 164),
                (300, 2600),
            ),
            Item(
                "45311000",
                "Electrical wiring and fitting work",
                "Complete renewal of low-voltage installation",
                SQUARE_METRE,
                (41, 77),
                (300, 2600),
            ),
            Item("39160000", "School furniture", "Desk and chair, height-adjustable", SET, (95, 170), (60, 700)),
        ),
        (
            ("es", "Construcción y ampliación de centros escolares"),
            ("zh", "校舍新建與擴建工程"),
        ),
    ),
    Subject(
        "food",
        "goods",
        (
            "Fresh food for school canteens, {place}",
            "Bread and dairy for the hospitals of {place}",
            "Seasonal fruit and vegetables, {place} care homes",
        ),
        (
            "At least a third comes from farms within eighty kilometres.",
            "Menus are fixed a fortnight ahead; orders change until noon of the day before.",
            "Packaging is taken back by the supplier.",
        ),
        (
            Item("15511000", "Milk", "Pasteurized whole milk, 1 l returnable bottle", LITRE, (1, 2), (2000, 48000)),
            Item("15811100", "Bread", "Wholemeal bread, sliced, 750 g", PIECE, (2, 4), (1000, 30000)),
            Item("03221000", "Vegetables", "Seasonal vegetables, washed", KILOGRAM, (2, 5), (800, 26000)),
            Item("03222000", "Fruit and nuts", "Seasonal fruit, class I", KILOGRAM, (2, 6), (800, 21000)),
        ),
        (
            ("fr", "Denrées fraîches pour cantines scolaires"),
            ("tr", "Okul yemekhaneleri için taze gıda"),
        ),
    ),
    Subject(
        "cleaning",
        "services",
        (
            "Cleaning of public buildings, {place}",
            "Collection of household refuse in {place}",
            "Window and façade cleaning, {place} library",
        ),
        (
            "Only products with an ecolabel are used, and staff are paid for travel between buildings.",
            "Routes were redrawn so that no street is served by two vehicles.",
            "Quality is checked by an unannounced visit each month.",
        ),
        (
            Item(
                "90911200",
                "Building-cleaning services",
                "Daily cleaning, per month and building",
                MONTH,
                (1900, 6400),
                (12, 48),
            ),
            Item(
                "90511000",
                "Refuse collection services",
                "Kerbside collection, three fractions",
                MONTH,
                (8400, 31000),
                (12, 48),
            ),
            Item("90919200", "Office cleaning services", "Deep cleaning between terms", HOUR, (21, 34), (100, 2400)),
        ),
        (("es", "Servicios de limpieza de edificios públicos"),),
    ),
    Subject(
        "software",
        "services",
        (
            "Case management software for {place}",
            "Help desk for the {place} administration",
            "Open data portal, second phase ({place} pilot)",
        ),
        (
            "The source code is published under a free licence and documented well enough to be run by others.",
            "Answers within four working hours; a person, not a form.",
            "Data entered once is not asked for again.",
        ),
        (
            Item(
                "72212000",
                "Programming services of application software",
                "Development, agile, senior developer",
                DAY,
                (480, 820),
                (40, 700),
            ),
            Item(
                "72253000",
                "Helpdesk and support services",
                "Help desk in three languages, per month",
                MONTH,
                (4200, 11800),
                (12, 36),
            ),
            Item("80500000", "Training services", "Training for users, groups of twelve", DAY, (650, 1150), (5, 60)),
        ),
        (
            ("ru", "Программное обеспечение и поддержка пользователей"),
            ("de", "Softwareentwicklung und Benutzerbetreuung"),
        ),
    ),
    Subject(
        "energy",
        "goods",
        (
            "Solar panels for the roofs of {place}",
            "Batteries and inverters, {place} mini-grid",
            "Photovoltaic plant for the {place} waterworks",
        ),
        (
            "The plant covers two thirds of the yearly demand and runs the pumps through a night.",
            "Diesel generators remain as a reserve and are tested monthly.",
            "Panels are mounted so that a single person can reach every cable.",
        ),
        (
            Item(
                "09331200", "Solar photovoltaic modules", "Module, monocrystalline, 430 W", PIECE, (92, 168), (60, 2400)
            ),
            Item("31155000", "Inverters", "Hybrid inverter, 50 kVA", PIECE, (5400, 9800), (1, 24)),
            Item("31422000", "Battery packs", "Lithium iron phosphate storage, 15 kWh", PIECE, (3900, 6900), (2, 80)),
        ),
        (
            ("es", "Módulos fotovoltaicos, inversores y baterías"),
            ("fr", "Panneaux solaires et stockage"),
        ),
    ),
    Subject(
        "vehicles",
        "goods",
        (
            "Low-floor buses for line 4, {place}",
            "Ambulances for the {place} rescue district",
            "Fuel and tyres for the {place} fleet",
        ),
        (
            "Vehicles are handed over with a workshop manual and spare parts for two years.",
            "Drivers were asked before the specification was written; mirrors and ramps changed because of it.",
            "Emissions per passenger fall by half.",
        ),
        (
            Item("34121000", "Buses and coaches", "Low-floor electric bus, 12 m", PIECE, (298000, 465000), (1, 14)),
            Item("34114121", "Ambulances", "Ambulance, four-wheel drive, equipped", PIECE, (84000, 139000), (1, 12)),
            Item("09134100", "Diesel oil", "Diesel, delivered to the depot", LITRE, (1, 2), (5000, 260000)),
            Item("34351100", "Tyres for motor cars", "All-season tyre, 205/55 R16", PIECE, (58, 112), (40, 900)),
        ),
        (("ar", "حافلات وسيارات إسعاف"),),
    ),
    Subject(
        "water",
        "works",
        (
            "Water main from {place} to the northern wards",
            "Renewal of pumps, {place} pumping station",
            "Water meters for {place}",
        ),
        (
            "A third of the water is lost before it reaches a tap; leaks are found by night flow.",
            "Pressure must not fall below 2.5 bar in any house during the works.",
            "Old pipes of asbestos cement stay in the ground, emptied and recorded.",
        ),
        (
            Item(
                "45231300",
                "Construction work for water and sewage pipelines",
                "Ductile iron main DN 300, laid",
                METRE,
                (190, 340),
                (400, 12000),
            ),
            Item("44163000", "Pipes and fittings", "PE 100 pipe, DN 63", METRE, (6, 13), (1000, 24000)),
            Item("42122000", "Pumps", "Submersible pump, 45 kW", PIECE, (9800, 18600), (1, 10)),
            Item("38421100", "Water meters", "Ultrasonic meter with radio", PIECE, (74, 132), (200, 9000)),
        ),
        (
            ("fr", "Conduite d'eau potable et pompes"),
            ("el", "Δίκτυο ύδρευσης και αντλίες"),
        ),
    ),
    Subject(
        "print",
        "goods",
        (
            "Textbooks for grades 5 to 9, {place} region",
            "Printing of ballot papers, {place} constituency",
            "Books for the {place} library bus",
        ),
        (
            "Titles in four languages; right-to-left editions are bound on the other side.",
            "Proofs are approved page by page before printing.",
            "Paper comes from certified forests.",
        ),
        (
            Item(
                "22111000",
                "School books",
                "Mathematics textbook with exercises, 240 pages",
                PIECE,
                (7, 16),
                (400, 26000),
            ),
            Item("22113000", "Library books", "Children's fiction, assorted", PIECE, (8, 19), (100, 5000)),
            Item(
                "79823000",
                "Printing and delivery services",
                "Printing, numbering, sealed delivery",
                PIECE,
                (1, 3),
                (5000, 180000),
            ),
        ),
        (
            ("he", "ספרי לימוד לכיתות ה׳–ט׳"),
            ("zh", "五至九年級教科書"),
        ),
    ),
    Subject(
        "engineering",
        "services",
        (
            "Engineering design for the {place} flood wall",
            "Supervision of works, {place} school programme",
            "Geotechnical survey, {place} harbour",
        ),
        (
            "Designs are checked by an engineer who did not draw them.",
            "The survey is published with its raw data.",
            "The consultant may not bid for the works.",
        ),
        (
            Item("71320000", "Engineering design services", "Detailed design, stage 4", HOUR, (62, 118), (200, 5200)),
            Item("71247000", "Supervision of building work", "Resident engineer", DAY, (390, 640), (60, 480)),
            Item(
                "71332000",
                "Geotechnical engineering services",
                "Borehole, 30 m, with laboratory tests",
                PIECE,
                (2400, 5100),
                (4, 40),
            ),
        ),
        (("de", "Ingenieurleistungen und Bauüberwachung"),),
    ),
    Subject(
        "safety",
        "goods",
        (
            "Protective clothing for the {place} fire brigade",
            "Fire extinguishers and hoses, public buildings of {place}",
            "Uniforms for wardens, {place} national park",
        ),
        (
            "Every size is tried on by the people who will wear it, women included.",
            "Old sets are taken back for recycling.",
            "Washed fifty times in the laboratory before acceptance.",
        ),
        (
            Item("18143000", "Protective gear", "Structural firefighting suit, two parts", SET, (640, 1120), (10, 260)),
            Item(
                "35111300", "Fire extinguishers", "Foam extinguisher, 6 l, fluorine-free", PIECE, (48, 92), (20, 1200)
            ),
            Item("18110000", "Occupational clothing", "Warden's jacket, waterproof", PIECE, (88, 162), (20, 500)),
        ),
        (
            ("tr", "İtfaiye için koruyucu giysiler"),
            ("ru", "Защитная одежда для пожарных"),
        ),
    ),
    Subject(
        "green",
        "services",
        (
            "Planting and care of street trees, {place}",
            "Restoration of wetlands near {place}",
            "Park maintenance, {place}, lots north and south",
        ),
        (
            "Native species only; the list is annexed.",
            "Nesting season, August to January, is free of machines. 🐦",
            "The work is reserved for social enterprises.",
        ),
        (
            Item(
                "77310000",
                "Planting and maintenance services of green areas",
                "Care of a young tree, three years",
                PIECE,
                (140, 290),
                (40, 1500),
            ),
            Item("03451000", "Plants", "Native tree, girth 14–16 cm, root ball", PIECE, (95, 210), (40, 1500)),
            Item(
                "45112700", "Landscaping work", "Reed bed, excavated and planted", SQUARE_METRE, (14, 31), (500, 16000)
            ),
        ),
        (("fr", "Plantation et entretien d'arbres d'alignement"),),
    ),
)
